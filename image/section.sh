#!/bin/sh
# Makes an object of a file whose content is to be the section .dep-v0 of what it is linked into, where scanners look for it
# (https://github.com/rust-secure-code/cargo-auditable/blob/master/PARSING.md).
#
#   image/section.sh COMPILER FILE OBJECT
set -eu
# R: a linker keeps it though nothing refers to it. The last one says that the stack holds no code.
printf '.section .dep-v0,"aR",%%progbits\n.incbin "%s"\n.section .note.GNU-stack,"",%%progbits\n' "$2" | "$1" -x assembler -c -o "$3" -
