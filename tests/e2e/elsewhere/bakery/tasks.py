# mypy: ignore-errors
"""What the bakery does."""

import os
import time
from pathlib import Path

from bakery.celery import app

DIARY = Path(os.environ.get("BAKERY_DIARY", "diary.txt"))


def write(line):
    with DIARY.open("a") as diary:
        diary.write(line + "\n")


@app.task
def add(first, second):
    return first + second


@app.task
def total(prices):
    return sum(prices)


@app.task(bind=True)
def who(self):
    return self.request.hostname


@app.task
def bake(loaf, seconds):
    write(f"baking {loaf}")
    time.sleep(seconds)
    write(f"baked {loaf}")
    return loaf


@app.task(bind=True, max_retries=5)
def knead(self, loaf, failures):
    write(f"kneading {loaf} {self.request.retries} {time.time()}")
    if self.request.retries < failures:
        raise self.retry(countdown=1, exc=RuntimeError("the dough is not ready"))
    return self.request.retries


@app.task
def wind_clock():
    write("tick")
