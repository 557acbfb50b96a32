/*
 * recent.c
 *		Where blocks were in shared buffers when this backend last read them.
 *
 * A search reads hundreds of pages that are in shared buffers, and waits for
 * memory most of the time: for the buffer table, the header and the end of each
 * page, its columns and codes.  A table of the buffers that blocks were in lets
 * it skip the buffer table (ReadRecentBuffer checks that the buffer still has
 * the block), and ask for the lines of a page before it needs them.
 *
 * An entry may be wrong: it is a hint, shared by the blocks of all indexes that
 * fall on it.
 */
#include "postgres.h"

#include "winnow.h"

#include "storage/bufmgr.h"
#include "utils/memutils.h"

/* Entries, 4 bytes each: a power of two */
#define ENTRIES 65536

/* Lines at the start of a page that are asked for, next to its last one */
#define LINES_AHEAD 8

static Buffer *recent;

static inline Buffer *
recent_entry(Relation rel, BlockNumber block)
{
	return &recent[(block + winnow_relation_number(rel) * 0x9E3779B1u) % ENTRIES];
}

/* ReadBuffer */
Buffer
winnow_read_buffer(Relation rel, BlockNumber block)
{
	Buffer	   *entry;

	if (recent == NULL)
		recent = MemoryContextAllocZero(TopMemoryContext, sizeof(Buffer) * ENTRIES);
	entry = recent_entry(rel, block);
	if (BufferIsInvalid(*entry) || !winnow_read_recent_buffer(rel, block, *entry))
		*entry = ReadBuffer(rel, block);
	return *entry;
}

/*
 * Ask the processor for the pages from a block on, as far as this backend has
 * read them before.
 */
void
winnow_prefetch(Relation rel, BlockNumber block, int npages)
{
	if (recent == NULL)
		return;
	for (int i = 0; i < npages; i++)
	{
		Buffer		buffer = *recent_entry(rel, block + i);
		const char *page;

		if (buffer <= 0 || buffer > NBuffers)
			continue;
		__builtin_prefetch(GetBufferDescriptor(buffer - 1));
		page = BufferGetPage(buffer);
		__builtin_prefetch(page + BLCKSZ - WINNOW_LINE);
		for (int line = 0; line < LINES_AHEAD; line++)
			__builtin_prefetch(page + line * WINNOW_LINE);
	}
}
