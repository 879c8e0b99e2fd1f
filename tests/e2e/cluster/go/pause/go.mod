module kommuna/tests/e2e/cluster/pause

go 1.26
