# Azure's own SDK for Python in an environment of its own; included by bed.mk.
BED_PYTHON ?= python3
AZURE_SOURCES := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
AZURE_LOCK := $(AZURE_SOURCES)/requirements.txt
AZURE_VENV := $(BED_DIR)/venv-azure

.PHONY: bed-azure azure-lock
bed: bed-azure
bed-azure: $(AZURE_VENV)/.installed

# Made new when the lock changes; the stamp is written last, so a broken install is repeated.
$(AZURE_VENV)/.installed: $(AZURE_LOCK)
	@echo "installing Azure's SDK into $(AZURE_VENV) (about 20 s the first time) ..."
	@rm -rf $(AZURE_VENV)
	@$(BED_PYTHON) -m venv $(AZURE_VENV)
	@$(AZURE_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r $(AZURE_LOCK)
	@touch $@

# Writes requirements.txt anew from requirements.in (only when a version is to change).
azure-lock:
	@d=$$(mktemp -d) && $(BED_PYTHON) -m venv $$d && $$d/bin/python -m pip install --quiet --disable-pip-version-check pip-tools && \
	cd $(AZURE_SOURCES) && CUSTOM_COMPILE_COMMAND="make azure-lock" $$d/bin/pip-compile --quiet --generate-hashes --strip-extras \
	  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --upgrade --output-file requirements.txt requirements.in; s=$$?; rm -rf $$d; exit $$s
