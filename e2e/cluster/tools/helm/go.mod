module wan-operator.dev/e2e/cluster/tools/helm

go 1.25.0
