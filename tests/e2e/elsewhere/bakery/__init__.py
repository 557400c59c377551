# mypy: ignore-errors
"""A bakery that runs on Celery."""

from bakery.celery import app as celery_app

__all__ = ("celery_app",)
