module wan-operator.dev/e2e/cluster/tools/probe

go 1.25.0
