"""The templates that come with Orchestra Hub, as package data: one folder each."""
