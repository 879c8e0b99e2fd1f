"""The split DAG processor: team code is parsed in the team's namespace, and only data comes back.

processor   the trusted half, in the control plane: lists files, checks answers, writes the database
relay       the trusted half's child process for one file: calls the parser and validates everything it sends
parser/     the untrusted half, in the team's namespace: one fresh process per file, no credentials
code_store  a commit's folder in the store: the processor publishes it, workers fetch it
wire        the frames that the two halves exchange
"""
