"""The services of Orchestra Hub: workshops, reconciler, culler arbiter, and `up`."""
