/* SPDX-License-Identifier: MIT */
#include <dlfcn.h>
#include <engine/observe/symbol.h>
#include <errno.h>
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/*
 * By _dl_find_object() where it is (glibc 2.35): it takes no lock. dladdr(3) takes the dynamic
 * linker's, which the very thread that stands still may hold: in dlopen(3) of a file on a server
 * that does not answer.
 */
#ifdef DLFO_STRUCT_HAS_EH_DBASE
static const struct link_map *module_of(const void *address)
{
    struct dl_find_object found;
    return _dl_find_object((void *)(uintptr_t)address, &found) == 0 ? found.dlfo_link_map : NULL;
}
#else
static const struct link_map *module_of(const void *address)
{
    Dl_info info;
    struct link_map *map = NULL;
    return dladdr1(address, &info, (void **)&map, RTLD_DL_LINKMAP) != 0 ? map : NULL;
}
#endif

void weir_symbol_write(const void *address, char *ret_text, size_t size)
{
    const struct link_map *map = module_of(address);
    if (!map) {
        snprintf(ret_text, size, "%p", address);
        return;
    }
    /* The program itself has no name there. */
    const char *name = map->l_name && map->l_name[0] ? map->l_name : program_invocation_name;
    const char *slash = strrchr(name, '/');
    name = slash ? slash + 1 : name;
    unsigned long offset = (unsigned long)((uintptr_t)address - map->l_addr);
    char rest[2 + 2 + 2 * sizeof offset];
    int length = snprintf(rest, sizeof rest, "+0x%lx", offset);
    snprintf(ret_text, size, "%.*s%s", (int)size - 1 - length, name, rest);
}
