"""Requests and references in the words of flight software and simulators; docs/integration.md has the table."""
