/* SPDX-License-Identifier: MIT */
/*
 * symbol.h: where in which module an address of code is, as addr2line(1) wants it.
 */
#ifndef WEIR_ENGINE_SYMBOL_H
#define WEIR_ENGINE_SYMBOL_H

#include <stddef.h>

#define WEIR_SYMBOL_MAX 128

/* "module+0x1234": the file's name without its folders, cut if need be, and the address in it as
 * it was linked, so of an executable that is not position-independent the address itself.
 * "0x7f0012345678": of no module. */
void weir_symbol_write(const void *address, char *ret_text, size_t size);

#endif
