"""The Kubernetes operator: custom resources in, Jobs out, honest status."""
