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

#include "port/pg_bitutils.h"
#include "storage/bufmgr.h"
#include "utils/memutils.h"

/* Entries, 4 bytes each, at first and at most: powers of two */
#define FIRST_ENTRIES	(1 << 14)
#define MOST_ENTRIES	(1 << 20)

static Buffer *recent;
static uint32 nentries;

static inline Buffer *
recent_entry(Relation rel, BlockNumber block)
{
	return &recent[(block + winnow_relation_number(rel) * 0x9E3779B1u) % nentries];
}

/* Make room for the blocks of an index up to the given one, as far as buffers could hold them */
static void
grow(BlockNumber block)
{
	uint32		most = pg_nextpower2_32(Max(Min(NBuffers, MOST_ENTRIES), FIRST_ENTRIES));
	uint32		wanted = block < most ? Max(pg_nextpower2_32(block + 1), FIRST_ENTRIES) : most;
	Buffer	   *larger;

	if (wanted <= nentries)
		return;
	larger = MemoryContextAllocZero(TopMemoryContext, sizeof(Buffer) * wanted);
	if (recent != NULL)
		pfree(recent);
	recent = larger;
	nentries = wanted;
}

/* ReadBuffer */
Buffer
winnow_read_buffer(Relation rel, BlockNumber block)
{
	Buffer	   *entry;

	if (block >= nentries)
		grow(block);
	entry = recent_entry(rel, block);
	if (BufferIsInvalid(*entry) || !winnow_read_recent_buffer(rel, block, *entry))
		*entry = ReadBuffer(rel, block);
	return *entry;
}

/*
 * Ask the processor for length bytes of a page from an offset on, for its header and its end, if
 * this backend has read it before.
 */
void
winnow_prefetch(Relation rel, BlockNumber block, int offset, int length)
{
	Buffer		buffer;
	const char *page;

	if (recent == NULL)
		return;
	buffer = *recent_entry(rel, block);
	if (buffer <= 0 || buffer > NBuffers)
		return;
	__builtin_prefetch(GetBufferDescriptor(buffer - 1));
	page = BufferGetPage(buffer);
	__builtin_prefetch(page);
	__builtin_prefetch(page + BLCKSZ - WINNOW_LINE);
	for (int at = offset - offset % WINNOW_LINE; at < Min(offset + length, BLCKSZ); at += WINNOW_LINE)
		__builtin_prefetch(page + at);
}
