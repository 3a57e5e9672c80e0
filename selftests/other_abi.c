// SPDX-License-Identifier: GPL-2.0
/*
 * Make a ferric.ko that says it is built for another kernel, for
 * module_lifetime: a copy in which one number of its struct
 * kvm_irqchip_provider is one higher.
 *
 *   other_abi abi|lapic_size ferric.ko copy.ko
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/types.h>

#define PROVIDER_SYMBOL		"ferric_provider"
/* Behind the pointers to name and owner; see arch/x86/kvm/irqchip_ops.h. */
#define ABI_OFFSET		16
#define LAPIC_SIZE_OFFSET	20

#define SECTION_SYMTAB		2

/* The System V ABI's names of <elf.h>, without what is not needed here. */
struct elf_header {
	u8 ident[16];
	u8 type_machine_version_entry_phoff[24];
	u64 shoff;
	u8 flags_ehsize_phentsize_phnum_shentsize[12];
	u16 shnum;
	u16 shstrndx;
};

struct elf_section {
	u32 name;
	u32 type;
	u64 flags;
	u64 addr;
	u64 offset;
	u64 size;
	u32 link;
	u32 info;
	u64 addralign;
	u64 entsize;
};

struct elf_symbol {
	u32 name;
	u8 info;
	u8 other;
	u16 shndx;
	u64 value;
	u64 size;
};

static void die(const char *what)
{
	fprintf(stderr, "other_abi: %s\n", what);
	exit(1);
}

static u8 *read_file(const char *path, size_t *size)
{
	FILE *file = fopen(path, "rb");
	u8 *data = NULL;
	long end = -1;

	if (file && !fseek(file, 0, SEEK_END))
		end = ftell(file);
	if (end > 0)
		data = malloc(end);
	if (!data)
		die("cannot read the module");
	rewind(file);
	if (fread(data, 1, end, file) != (size_t)end)
		die("cannot read the module");
	fclose(file);
	*size = end;
	return data;
}

static void check_range(size_t size, u64 offset, u64 length)
{
	if (offset > size || length > size - offset)
		die("not an ELF file that is whole");
}

/* The symbol's offset in the file. */
static u64 find_symbol(const u8 *data, size_t size, const char *name)
{
	const struct elf_header *header = (const void *)data;
	const struct elf_section *sections, *symtab, *strtab;
	const struct elf_symbol *symbol;
	u64 i, n;
	int s;

	check_range(size, 0, sizeof(*header));
	if (memcmp(header->ident, "\177ELF\2\1", 6))
		die("not a 64-bit ELF file");
	check_range(size, header->shoff, header->shnum * sizeof(*sections));
	sections = (const void *)(data + header->shoff);

	for (s = 0; s < header->shnum; s++) {
		symtab = &sections[s];
		if (symtab->type != SECTION_SYMTAB || symtab->link >= header->shnum)
			continue;
		strtab = &sections[symtab->link];
		check_range(size, symtab->offset, symtab->size);
		check_range(size, strtab->offset, strtab->size);
		symbol = (const void *)(data + symtab->offset);
		n = symtab->size / sizeof(*symbol);
		for (i = 0; i < n; i++, symbol++) {
			if (symbol->name >= strtab->size ||
			    symbol->shndx >= header->shnum ||
			    strncmp((const char *)data + strtab->offset +
				    symbol->name, name,
				    strtab->size - symbol->name))
				continue;
			return sections[symbol->shndx].offset +
			       symbol->value;
		}
	}
	die("no symbol " PROVIDER_SYMBOL);
	return 0;
}

int main(int argc, char **argv)
{
	u64 offset;
	u8 *data;
	u32 val;
	size_t size;
	FILE *out;

	if (argc != 4 || (strcmp(argv[1], "abi") && strcmp(argv[1], "lapic_size")))
		die("usage: other_abi abi|lapic_size ferric.ko copy.ko");

	data = read_file(argv[2], &size);
	offset = find_symbol(data, size, PROVIDER_SYMBOL);
	offset += strcmp(argv[1], "abi") ? LAPIC_SIZE_OFFSET : ABI_OFFSET;
	check_range(size, offset, sizeof(val));
	memcpy(&val, data + offset, sizeof(val));
	/* A number that nobody would have there means: this is another layout. */
	if (!val || val > 4096)
		die("the provider is not as expected");
	val++;
	memcpy(data + offset, &val, sizeof(val));

	out = fopen(argv[3], "wb");
	if (!out || fwrite(data, 1, size, out) != size || fclose(out))
		die("cannot write the copy");
	return 0;
}
