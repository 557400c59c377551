# Wrappers for those who have make; the scripts do the work and need only sh and Python.
# Arguments go in args: make test args="tests/unit -k config"

.PHONY: up test bench lock clean chaos chaos-swarm chaos-orders fuzz

bootstrap = sh scripts/with-python scripts/bootstrap.py

up: ; @scripts/up $(args)
test: ; @scripts/test $(args)
bench: ; @scripts/bench $(args)
# Campaigns of many minutes, kept out of make test.
chaos: ; @$(bootstrap) run python -m tests.campaign.kill_broker --rounds 200 $(args)
chaos-swarm: ; @$(bootstrap) run python -m tests.campaign.kill_swarm --rounds 50 $(args)
chaos-orders: ; @$(bootstrap) run python -m botswarm chaos run $(args)
fuzz: ; @$(bootstrap) run python -m tests.campaign.mutate_frames --frames 1000000 $(args) && $(bootstrap) run python -m tests.campaign.mutate_feed --frames 1000000 $(args)

lock: ; @scripts/lock $(args)
clean: ; @$(bootstrap) clean
