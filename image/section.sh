#!/bin/sh
# Makes an object of a file whose content is to be the section .dep-v0 of what it is linked into, where scanners look for it
# (https://github.com/rust-secure-code/cargo-auditable/blob/master/PARSING.md).
#
#   image/section.sh COMPILER FILE OBJECT
set -eu
# No part of what is loaded: a linker keeps such a section though nothing refers to it.
printf '.section .dep-v0,"",%%progbits\n.incbin "%s"\n' "$2" | "$1" -x assembler -c -o "$3" -
