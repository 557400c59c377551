"""The embedded AMQP 0-9-1 broker: one machine, loopback only, nothing to install."""
