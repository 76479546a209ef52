module wan-operator.dev/e2e/cluster/tools/kwok

go 1.25.0
