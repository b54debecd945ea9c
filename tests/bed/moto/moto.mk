# The Python virtual environment of the AWS double; included by bed.mk.
BED_PYTHON ?= python3
MOTO_SOURCES := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
MOTO_LOCK := $(MOTO_SOURCES)/requirements.txt
MOTO_VENV := $(BED_DIR)/venv

.PHONY: bed-moto check-moto moto-lock
bed: bed-moto
# The program carries the double's sources.
$(BED_BIN)/bed: $(MOTO_SOURCES)/embed.go $(MOTO_SOURCES)/launcher.py $(wildcard $(MOTO_SOURCES)/awsbed/*.py)
bed-moto: $(MOTO_VENV)/.installed

# Made new when the lock changes; the stamp is written last, so a broken install is repeated.
$(MOTO_VENV)/.installed: $(MOTO_LOCK)
	@echo "installing moto into $(MOTO_VENV) (about 20 s the first time) ..."
	@rm -rf $(MOTO_VENV)
	@$(BED_PYTHON) -m venv $(MOTO_VENV)
	@$(MOTO_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r $(MOTO_LOCK)
	@touch $@

# AWS's own SDK against the double: it must refuse what AWS refuses.
check-moto: bed-moto $(BED_BIN)/bed
	@$(MOTO_VENV)/bin/python $(MOTO_SOURCES)/check.py $(BED_BIN)/bed

# Writes requirements.txt anew from requirements.in (only when a version is to change).
moto-lock:
	@d=$$(mktemp -d) && $(BED_PYTHON) -m venv $$d && $$d/bin/python -m pip install --quiet --disable-pip-version-check pip-tools && \
	cd $(MOTO_SOURCES) && CUSTOM_COMPILE_COMMAND="make moto-lock" $$d/bin/pip-compile --quiet --generate-hashes --strip-extras \
	  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --upgrade --output-file requirements.txt requirements.in; s=$$?; rm -rf $$d; exit $$s
