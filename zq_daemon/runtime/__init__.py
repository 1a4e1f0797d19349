"""The Trio vocabulary of the project: services, backoff, queues, containment, signals."""
