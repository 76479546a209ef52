module wan-operator.dev/e2e/cluster/tools/minio

go 1.25.0
