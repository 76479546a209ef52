"""wan-operator.dev/v1alpha1. Changes within the version are additive only."""
