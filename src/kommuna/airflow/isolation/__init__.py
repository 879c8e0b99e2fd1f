"""The split DAG processor: team code is parsed in the team's namespace, and only data comes back.

processor   the trusted half, in the control plane: lists files, judges answers, writes the database
relay       the trusted half's child for one file: asks the parser, and believes nothing that it says
parser/     the untrusted half, in the team's namespace: one fresh process a file, no credentials
wire        the frames between the two
"""
