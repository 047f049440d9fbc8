# Thin: what each target does stands in the file it calls.
PYTHON ?= python3
BIN := .venv/bin
# Options for the command that a target ends in, as in: make demo ARGS="--frames 30" or make test ARGS="-k weights"
ARGS ?=

.PHONY: help setup demo demo-basilisk test lint bench evaluate clean

help:
	@echo "make setup   environment, ROS 2 wheels, MobileSAM checkpoint, messages (a second run does nothing)"
	@echo "make demo    the ROS graph on a simulated fly-by, into demo_output/"
	@echo "make demo-basilisk  the same on a spacecraft with wheels that Basilisk integrates, into demo_basilisk_output/"
	@echo "make test    core, node and graph tests"
	@echo "make lint    ruff and mypy"
	@echo "make bench   milliseconds per stage, the stock generator beside ours, two networks, into bench_output/"
	@echo "make evaluate  every scenario with several seeds against truth, into evaluation_output/ (ARGS=--quick: minutes)"
	@echo "make clean   remove what the build made (the environment and the checkpoints stay)"

setup:
	@$(PYTHON) requirements/environment.py

demo: setup
	$(BIN)/sparsematch demo --out demo_output $(ARGS)

demo-basilisk: setup
	$(BIN)/sparsematch demo basilisk_fly_by --dynamics basilisk --out demo_basilisk_output $(ARGS)

test: setup
	$(BIN)/pytest $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/sparsematch bench --out bench_output --reference --reference-frames 3 \
		--set segmentation.points_per_side=16 --models mobile_sam,dinov2_vits14 $(ARGS)

evaluate: setup
	$(BIN)/sparsematch evaluate --suite --out evaluation_output $(ARGS)

clean:
	rm -rf build install log
