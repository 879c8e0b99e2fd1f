"""Serves a small LLM by OpenAI's API until its input ends: `small_llm.py WEIGHTS HOST PORT CONTEXT_TOKENS`.

It runs with the Python of `.venv-llm`; the key is in the variable `LLM_KEY`, empty for none. llama.cpp's own server
answers: schemas become grammars, prompts beyond the context are refused.
"""

import os
import sys

import xllamacpp

weights, host, port, context = sys.argv[1:]
params = xllamacpp.CommonParams()
params.model.path = weights
params.hostnames = [host]
params.port = int(port)
params.n_ctx = int(context)
params.cpuparams.n_threads = 1
params.verbosity = 0
params.api_keys = [os.environ["LLM_KEY"]] if os.environ.get("LLM_KEY") else []
server = xllamacpp.Server(params)  # returns when the model is loaded
print(server.listening_address, flush=True)
sys.stdin.read()
