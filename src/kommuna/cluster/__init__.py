"""The platform on Kubernetes: what the Helm chart's jobs run. The embedded platform does the same in its own way."""
