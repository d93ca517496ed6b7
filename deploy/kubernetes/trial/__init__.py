"""`make test-kubernetes`: the manifests on a real Kubernetes API server, with real controllers and simulated nodes."""
