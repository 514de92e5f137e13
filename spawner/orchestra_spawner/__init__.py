"""The spawners of Orchestra Hub, and what lies behind the `Provisioner` protocol."""
