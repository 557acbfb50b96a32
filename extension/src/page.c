/*
 * page.c
 *		Pages: where things are, reading and writing rows, checks on the way in.
 *
 * Nothing about the layout is stored: it follows from the dimensions, the list
 * size and the attribute columns (DESIGN.md, section 2).
 */
#include "postgres.h"

#include "winnow.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "storage/smgr.h"

/* Groups whose removed bits are on their node's first head page, at most */
#define MAPPED_GROUPS 16

/* Times that a reader finds pages gone before the index is taken to be damaged */
#define MAX_RESTARTS 1000

/* The last page that was */
static BlockNumber gone_block;

/* Bytes of the centroid, rounded so that the codes behind it are aligned */
static int
centroid_bytes(int dims)
{
	return MAXALIGN(sizeof(float) * dims);
}

/*
 * Where the code at a position lies, counted over all groups of a node: which
 * of the node's data pages, and the offset from the start of that page's
 * contents.  The centroid is in front of the codes.
 */
static void
place_code(const WinnowLayout *layout, int position, int *page, int *offset)
{
	int			code = winnow_code_bytes(layout->dims);
	int			per_page = WINNOW_PAGE_USABLE / code;
	int			front = centroid_bytes(layout->dims);
	int			shared = front % WINNOW_PAGE_USABLE;
	int			on_shared = (WINNOW_PAGE_USABLE - shared) / code;

	*page = front / WINNOW_PAGE_USABLE;
	if (position < on_shared)
		*offset = shared + position * code;
	else
	{
		position -= on_shared;
		*page += 1 + position / per_page;
		*offset = (position % per_page) * code;
	}
}

/* The first data page of the node that a group names */
static int
first_page(const WinnowLayout *layout, int number)
{
	int			page;
	int			offset;

	if (number == 0)
		return 0;
	place_code(layout, number * layout->capacity, &page, &offset);
	return page;
}

/*
 * Where the code of a slot of the node's group of that number lies: which of
 * the data pages that the group names, and the offset from the start of that
 * page's contents.
 */
void
winnow_code_place(const WinnowLayout *layout, int number, int slot, int *page, int *offset)
{
	place_code(layout, number * layout->capacity + slot, page, offset);
	*page -= first_page(layout, number);
}

/* The last slot whose code is on the same page as that of the given slot */
int
winnow_code_last(const WinnowLayout *layout, int number, int slot)
{
	int			code = winnow_code_bytes(layout->dims);
	int			page;
	int			offset;

	winnow_code_place(layout, number, slot, &page, &offset);
	return slot + (WINNOW_PAGE_USABLE - offset) / code - 1;
}

/* Is the first data page of a group also the last one of the group before it? */
bool
winnow_data_shared(const WinnowLayout *layout, int number)
{
	int			page;
	int			offset;

	place_code(layout, number * layout->capacity, &page, &offset);
	return number > 0 && offset > 0;
}

/* Data pages that a group of nrows rows names: those that hold something of it */
int
winnow_data_pages(const WinnowLayout *layout, int number, int nrows)
{
	int			page;
	int			offset;

	if (nrows == 0 && number > 0)
		return winnow_data_shared(layout, number) ? 1 : 0;
	if (nrows == 0)
		return (centroid_bytes(layout->dims) + WINNOW_PAGE_USABLE - 1) / WINNOW_PAGE_USABLE;
	winnow_code_place(layout, number, nrows - 1, &page, &offset);
	return page + 1;
}

/* Pages of a group that are not those of the group before it too */
int
winnow_group_pages(const WinnowLayout *layout, const WinnowGroup *group)
{
	return 1 + group->ndata - (winnow_data_shared(layout, group->number) ? 1 : 0) +
		group->nrecord_pages;
}

/* Among the bits of nblocks blocks, set those of a group's pages */
void
winnow_group_note(const WinnowLayout *layout, BlockNumber block, const WinnowGroup *group,
				  uint64 *seen, BlockNumber nblocks)
{
	winnow_note_blocks(&block, 1, seen, nblocks);
	winnow_note_blocks(group->data, group->ndata, seen, nblocks);
	winnow_note_blocks(winnow_record_blocks(layout, group), group->nrecord_pages, seen,
					   nblocks);
}

/* The most data pages that a group of the layout's capacity can name */
static int
most_data_pages(const WinnowLayout *layout)
{
	int			per_page = WINNOW_PAGE_USABLE / winnow_code_bytes(layout->dims);

	/* another group than the first may begin with the last code of a page */
	return Max(winnow_data_pages(layout, 0, layout->capacity),
			   1 + (layout->capacity + per_page - 2) / per_page);
}

/* Where the parts of a head page are; returns where they end */
static int
place_columns(WinnowLayout *layout)
{
	int			offset = MAXALIGN(SizeOfPageHeaderData);

	layout->max_data = most_data_pages(layout);
	layout->max_record_pages = winnow_record_page_count(layout, layout->capacity);
	offset += MAXALIGN(offsetof(WinnowGroup, data) +
					   sizeof(BlockNumber) * (layout->max_data + layout->max_record_pages));
	layout->group_words = WINNOW_MASK_WORDS(layout->capacity);
	layout->mapped_groups = Min(MAPPED_GROUPS,
								1 + (layout->size + layout->capacity - 1) / layout->capacity);
	layout->removed_offset = offset;
	offset += sizeof(uint64) * winnow_map_words(layout);
	layout->id_offset = offset;
	offset += layout->id_width * layout->capacity;
	for (int i = 0; i < layout->ncolumns; i++)
	{
		layout->page_offset[i] = offset;
		offset += layout->width[i] * layout->capacity;
	}
	return offset;
}

/* Take one column into the row image */
static void
add_column(WinnowLayout *layout, int width)
{
	layout->width[layout->ncolumns] = width;
	layout->image_offset[layout->ncolumns] = layout->image_bytes;
	layout->image_bytes += width;
	layout->ncolumns++;
}

/*
 * Work out the layout of a level.  A group takes as many rows as fit on its head
 * page, but no more than a node is meant to hold.
 */
void
winnow_layout_init(WinnowLayout *layout, const WinnowSchema *schema, int dims,
				   int size, int bits, bool leaf)
{
	memset(layout, 0, sizeof(*layout));
	layout->dims = dims;
	layout->size = size;
	layout->id_width = leaf ? sizeof(ItemPointerData) : sizeof(BlockNumber);
	if (!leaf)
	{
		add_column(layout, sizeof(uint32));
		add_column(layout, sizeof(float));
		add_column(layout, sizeof(float));
	}
	layout->schema_column = layout->ncolumns;
	for (int i = 0; i < (leaf ? schema->nleaf : schema->ninner); i++)
		add_column(layout, leaf ? schema->leaf_width[i] : schema->inner_width[i]);

	layout->capacity = Min(size, WINNOW_PAGE_USABLE / (layout->id_width + layout->image_bytes));
	if (leaf)
		layout->record_bytes = bits > 1 ? winnow_refinement_bytes(dims, bits) : 0;
	else
	{
		layout->record_bytes = schema->imprint_bytes;
		layout->records_per_page = WINNOW_PAGE_USABLE / Max(schema->imprint_bytes, 1);
		layout->imprint_offset = layout->image_bytes;
		layout->image_bytes += schema->imprint_bytes;
	}
	while (place_columns(layout) > (int) (BLCKSZ - MAXALIGN(sizeof(WinnowPageOpaque))))
		layout->capacity--;
	Assert(layout->capacity > 0);
}

/*
 * When a page that is about to be written is born.  Whoever read a pointer to
 * its block before that read a page with an older LSN, or the same; who reads
 * one to the page as it will be reads it on a page with a newer LSN.  0 if LSNs
 * mean nothing, and no standby has the index.
 */
XLogRecPtr
winnow_birth(Relation rel)
{
	return RelationNeedsWAL(rel) ? GetXLogInsertRecPtr() : InvalidXLogRecPtr;
}

void
winnow_page_init(Page page, WinnowPageKind kind, XLogRecPtr born)
{
	WinnowPageOpaque *opaque;

	PageInit(page, BLCKSZ, sizeof(WinnowPageOpaque));
	opaque = WinnowPageGetOpaque(page);
	opaque->born = born;
	opaque->kind = kind;
	opaque->page_id = WINNOW_PAGE_ID;
}

/*
 * An empty head page of the node whose first one is given.  It has no hole:
 * columns reach over the whole page.
 */
void
winnow_head_init(Page page, XLogRecPtr born, int level, int number, BlockNumber first)
{
	WinnowGroup *group;

	winnow_page_init(page, WINNOW_PAGE_HEAD, born);
	((PageHeader) page)->pd_lower = ((PageHeader) page)->pd_upper;
	group = WinnowPageGetGroup(page);
	group->level = level;
	group->number = number;
	group->first = first;
	group->next = InvalidBlockNumber;
}

/*
 * Finish a record with the image of a head page.  That has no hole, but its free
 * slots are zeros: it is compressed, also where wal_compression is off.
 */
void
winnow_finish_head(GenericXLogState *xlog)
{
	int			setting = wal_compression;

	if (setting == WAL_COMPRESSION_NONE)
		wal_compression = WAL_COMPRESSION_PGLZ;
	GenericXLogFinish(xlog);
	wal_compression = setting;
}

/* Put a finished page image into its block */
void
winnow_page_write(Relation rel, ForkNumber fork, BlockNumber block, Page image, bool logged)
{
	Buffer		buffer = ReadBufferExtended(rel, fork, block, RBM_NORMAL, NULL);

	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	if (logged)
	{
		GenericXLogState *state = GenericXLogStart(rel);

		memcpy(GenericXLogRegisterBuffer(state, buffer, GENERIC_XLOG_FULL_IMAGE),
			   image, BLCKSZ);
		if (WinnowPageGetOpaque(image)->kind == WINNOW_PAGE_HEAD)
			winnow_finish_head(state);
		else
			GenericXLogFinish(state);
	}
	else
	{
		memcpy(BufferGetPage(buffer), image, BLCKSZ);
		MarkBufferDirty(buffer);
	}
	UnlockReleaseBuffer(buffer);
}

/* Contents of a data page now reach to the given offset at least */
void
winnow_data_set_end(Page page, int end)
{
	PageHeader	header = (PageHeader) page;
	int			lower = MAXALIGN(SizeOfPageHeaderData) + end;

	if (header->pd_lower < lower)
		header->pd_lower = lower;
}

/* Put a code where winnow_code_place says */
void
winnow_code_store(const WinnowIndex *index, Page page, int offset, const uint8 *code)
{
	memcpy(PageGetContents(page) + offset, code, index->code_bytes);
	winnow_data_set_end(page, offset + index->code_bytes);
}

/*
 * Put a row into a slot of a head page.  One that has not been used before is
 * live with that; of another the removed bit is the caller's to clear.
 */
void
winnow_row_store(const WinnowLayout *layout, Page page, int slot, uint64 id,
				 const uint8 *image)
{
	WinnowGroup *group = WinnowPageGetGroup(page);
	char	   *to = (char *) page + layout->id_offset + layout->id_width * slot;

	Assert(slot < layout->capacity);
	if (layout->id_width == sizeof(ItemPointerData))
	{
		ItemPointerData tid;

		winnow_tid_unpack(id, &tid);
		memcpy(to, &tid, sizeof(tid));
	}
	else
	{
		BlockNumber child = (BlockNumber) id;

		memcpy(to, &child, sizeof(child));
	}
	winnow_row_set_image(layout, page, slot, image);
	if (group->nrows <= slot)
		group->nrows = slot + 1;
}

/* Of the first nrows slots of a group, those that have lost their rows */
int
winnow_count_removed(const uint64 *removed, int nrows)
{
	int			count = 0;

	for (int w = 0; w < nrows / 64; w++)
		count += pg_popcount64(removed[w]);
	if (nrows % 64 != 0)
		count += pg_popcount64(removed[nrows / 64] & ((UINT64CONST(1) << (nrows % 64)) - 1));
	return count;
}

/* The live rows of a head page */
int
winnow_count_live(const WinnowLayout *layout, Page first, Page page)
{
	int			nrows = WinnowPageGetGroup(page)->nrows;

	return nrows - winnow_count_removed(winnow_removed_bits(layout, first, page), nrows);
}

/* Gather the column values of a row, and scatter them */
void
winnow_row_image(const WinnowLayout *layout, Page page, int slot, uint8 *image)
{
	for (int i = 0; i < layout->ncolumns; i++)
		memcpy(image + layout->image_offset[i],
			   (char *) page + layout->page_offset[i] + layout->width[i] * slot,
			   layout->width[i]);
}

void
winnow_row_set_image(const WinnowLayout *layout, Page page, int slot, const uint8 *image)
{
	for (int i = 0; i < layout->ncolumns; i++)
		memcpy((char *) page + layout->page_offset[i] + layout->width[i] * slot,
			   image + layout->image_offset[i],
			   layout->width[i]);
}

void
winnow_corrupted(Relation rel, BlockNumber block, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INDEX_CORRUPTED),
			 BlockNumberIsValid(block) ?
				 errmsg("index \"%s\" is corrupted at block %u", RelationGetRelationName(rel), block) :
				 errmsg("index \"%s\" is corrupted", RelationGetRelationName(rel)),
			 errdetail_internal("%s", detail),
			 errhint("Rebuild the index with REINDEX.")));
}

/*
 * Does the index have the block?  The operating system is asked only where the
 * size it said last does not answer: an index never shrinks.
 */
static bool
block_exists(Relation rel, BlockNumber block)
{
	BlockNumber known = RelationGetSmgr(rel)->smgr_cached_nblocks[MAIN_FORKNUM];

	return (BlockNumberIsValid(known) && block < known) ||
		block < RelationGetNumberOfBlocks(rel);
}

/*
 * Read and lock a page, which must be of the given kind.  Its header is such
 * that generic WAL can deal with the page.
 *
 * asof is the LSN of the page that named the block, when it did.  A page that
 * was born since is another one: it is gone, and the result InvalidBuffer.
 * That can happen on a standby only (DESIGN.md, section 7).  Those who are
 * protected from it pass 0.
 */
Buffer
winnow_try_read_page(Relation rel, BlockNumber block, WinnowPageKind kind, XLogRecPtr asof,
					 int lockmode)
{
	Buffer		buffer;
	Page		page;
	PageHeader	header;

	/* also where long walks over the index notice a cancel */
	CHECK_FOR_INTERRUPTS();

	if (!block_exists(rel, block))
		winnow_corrupted(rel, block, "A page names a block that does not exist.");
	buffer = winnow_read_buffer(rel, block);
	if (winnow_buffer_locked(buffer))
		winnow_corrupted(rel, block, "It is in two places of a node.");
	LockBuffer(buffer, lockmode);
	page = BufferGetPage(buffer);
	if (PageIsNew(page) ||
		winnow_page_kind(page) == 0)
		winnow_corrupted(rel, block, "It is not a page of a winnow index.");
	header = (PageHeader) page;
	if (header->pd_upper != header->pd_special || header->pd_lower > header->pd_upper ||
		header->pd_lower < SizeOfPageHeaderData)
		winnow_corrupted(rel, block, "Its header is damaged.");
	if (asof != InvalidXLogRecPtr && WinnowPageGetOpaque(page)->born >= asof)
	{
		UnlockReleaseBuffer(buffer);
		gone_block = block;
		return InvalidBuffer;
	}
	if (WinnowPageGetOpaque(page)->kind != kind)
		winnow_corrupted(rel, block, "Its kind is not the one expected where it is named.");
	return buffer;
}

/*
 * Read and lock a head page.  level is what the page must say, or -1.  After
 * this everything that indexes into the page by nrows or ndata is in bounds.
 */
Buffer
winnow_try_read_head(const WinnowIndex *index, Relation rel, BlockNumber block, int level,
					 XLogRecPtr asof, int lockmode)
{
	Buffer		buffer = winnow_try_read_page(rel, block, WINNOW_PAGE_HEAD, asof, lockmode);
	PageHeader	header;
	WinnowGroup *group;
	const WinnowLayout *layout;

	if (BufferIsInvalid(buffer))
		return buffer;
	header = (PageHeader) BufferGetPage(buffer);
	group = WinnowPageGetGroup(BufferGetPage(buffer));
	layout = winnow_layout(index, group->level);
	if (group->level >= WINNOW_MAX_LEVELS || (level >= 0 && group->level != level))
		winnow_corrupted(rel, block, "Its level is not the one expected.");
	if (group->nrows > layout->capacity || group->ndata > layout->max_data ||
		group->nrecord_pages > layout->max_record_pages)
		winnow_corrupted(rel, block, "It claims more rows than fit.");
	if (header->pd_lower != header->pd_upper)
		winnow_corrupted(rel, block, "It has a hole, which loses its columns.");
	return buffer;
}

/*
 * Follow the chain of a node's groups, from the first: a chain that a damaged
 * page leads astray, or round in circles, must end in an error.  The mark is
 * moved ever more seldom, so that a circle of any length comes back to it
 * (R. P. Brent, "An improved Monte Carlo factorization algorithm", BIT 20, 1980).
 */
void
winnow_chain_start(WinnowChain *chain, BlockNumber node)
{
	chain->node = node;
	chain->ngroups = 0;
	chain->mark = InvalidBlockNumber;
	chain->steps = 0;
	chain->stride = 1;
}

/* The next group of the chain is this; its page is locked */
void
winnow_chain_follow(Relation rel, WinnowChain *chain, BlockNumber block, Page page)
{
	if (WinnowPageGetGroup(page)->first != chain->node)
		winnow_corrupted(rel, block, "It does not belong to the node that it was reached from.");
	if (block == chain->mark)
		winnow_corrupted(rel, block, "The chain of groups that it is in has no end.");
	if (WinnowPageGetGroup(page)->number != chain->ngroups++)
		winnow_corrupted(rel, block, "It is not in its place among the groups of its node.");
	if (++chain->steps == chain->stride)
	{
		chain->mark = block;
		chain->steps = 0;
		chain->stride *= 2;
	}
}

/*
 * A page was gone, so what read it must start again from the meta page; this
 * says whether that is believable.  On the primary nothing goes that a snapshot
 * may lead to.  On a standby VACUUM's replay does not wait for readers, but it
 * cannot be in the way every time.
 */
void
winnow_page_gone(Relation rel, bool replaying, int *restarts)
{
	CHECK_FOR_INTERRUPTS();
	if (!replaying || ++*restarts > MAX_RESTARTS)
		winnow_corrupted(rel, gone_block, "It is newer than the pointer that led to it.");
}

/* What the meta page says; if asof is not NULL, as of when */
WinnowMeta
winnow_read_meta(Relation rel, XLogRecPtr *asof)
{
	Buffer		buffer = winnow_read_page(rel, WINNOW_META_BLOCK, WINNOW_PAGE_META,
										  BUFFER_LOCK_SHARE);
	Page		page = BufferGetPage(buffer);
	WinnowMeta	meta = *WinnowPageGetMeta(page);

	if (((PageHeader) page)->pd_lower < MAXALIGN(SizeOfPageHeaderData) + sizeof(WinnowMeta))
		winnow_corrupted(rel, WINNOW_META_BLOCK, "The meta page ends before its content does.");
	if (asof != NULL)
		*asof = winnow_page_asof(page);
	UnlockReleaseBuffer(buffer);
	return meta;
}

/* The root's first head page; if asof is not NULL, when the meta page named it */
BlockNumber
winnow_read_root(Relation rel, XLogRecPtr *asof)
{
	return winnow_read_meta(rel, asof).root;
}
