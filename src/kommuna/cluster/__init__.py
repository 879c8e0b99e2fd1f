"""The platform on Kubernetes: the programs that the Helm chart's jobs run."""
