"""A swarm of crypto trading bots as a distributed task system on Celery and RabbitMQ."""

__version__ = "0.1.0"
