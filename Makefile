# Wrappers for those who have make; the scripts do the work and need only sh and Python.
# Arguments go in args: make test args="tests/unit -k config"

.PHONY: up test bench lock clean chaos fuzz

up: ; @scripts/up $(args)
test: ; @scripts/test $(args)
bench: ; @scripts/bench $(args)
lock: ; @scripts/lock $(args)
clean: ; @sh scripts/with-python scripts/bootstrap.py clean
