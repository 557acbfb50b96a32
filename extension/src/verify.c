/*
 * verify.c
 *		winnow_check(): is the index what DESIGN.md says it is?
 *
 * The tree is walked once, with the structure lock held, so that splits and
 * vacuum keep out.  Inserts go on: a row may be added to a page at any time, and
 * has been made part of the summaries above before.  Every page is copied under
 * a share lock, and what is found wrong between two pages is looked at again
 * where an insert could explain it.
 *
 * A first fault ends the check, as in amcheck: ERRCODE_INDEX_CORRUPTED, naming
 * the block and the slot.
 */
#include "postgres.h"

#include "verify.h"

#include "owner.h"

#include <math.h>

#include "access/relation.h"
#include "access/table.h"
#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "catalog/index.h"
#include "kernels/kernels.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

/* How often it is tried to get hold of the index */
#define CHECK_WAIT_MS 10

/* A node that is being checked; below it, its children are */
typedef struct NodeCheck
{
	int			level;
	BlockNumber node;			/* first head page */
	const WinnowCheckedRow *parent; /* its row there; NULL for the root */
	WinnowHeads heads;
	BlockNumber block;			/* of the group that it is at */
	XLogRecPtr	asof;			/* its LSN */
	char	   *head;			/* copy of its head page */
	BlockNumber last_data;		/* the last of the data pages met */
	PGAlignedBlock data;		/* and of one of its data pages */
	int			data_page;		/* which; -1: none */
	int			nrows;			/* live rows met */
	float	   *centroid;
	uint8	   *image;			/* of a row */
	uint8	   *below;			/* summary of the rows met */
	uint8	   *imprint;		/* and imprint */
} NodeCheck;

/*
 * May replay have changed pages since the walk began?  It says what it is about
 * to do before it touches a page.
 */
bool
winnow_check_replayed(WinnowCheck *check)
{
	return check->standby &&
		(!RecoveryInProgress() || GetCurrentReplayRecPtr(NULL) != check->replay_began);
}

void
winnow_check_failed(WinnowCheck *check, const WinnowCheckedRow *row, const char *fault)
{
	winnow_corrupted(check->rel, row->block,
					 psprintf("The row in slot %d %s.", row->slot, fault));
}

/* Do two floats that were computed in different orders agree? */
static bool
agree(float a, float b, double tolerance)
{
	if (isnan(a) || isnan(b) || isinf(a) || isinf(b))
		return a == b || (isnan(a) && isnan(b));
	return fabs((double) a - b) <= tolerance * Max(fabsf(a), fabsf(b));
}

/*
 * Is the refinement code as near to the vector as it says?  It may say a little
 * less than is true, by what floats are off, and is a little more cautious.
 */
static bool
check_refinement(const WinnowIndex *index, const WinnowCheckedRow *row, const float *vector)
{
	float		head[3];
	float		norm;
	double		rest;

	StaticAssertStmt(sizeof(head) == WINNOW_REFINEMENT_HEAD,
					 "a refinement code starts with three floats");
	memcpy(head, row->refinement, sizeof(head));
	memcpy(&norm, row->code, sizeof(norm));
	rest = winnow_refinement_rest(vector, row->centroid, index->dims, index->bits,
								  row->refinement);
	return agree(head[0], norm, 8 * WINNOW_SUM_ERROR(index->dims)) &&
		(fabs(rest - head[2]) <= 1e-3 * head[2] + 1e-5 * norm || norm > 1e18 || norm < 1e-12);
}

/*
 * Is the code the one of the vector?  Its bits are comparisons of numbers that
 * are the same on every machine; its lengths are sums, whose order depends on
 * the instruction set.
 */
bool
winnow_check_code(WinnowCheck *check, const WinnowCheckedRow *row, const float *vector)
{
	const WinnowIndex *index = check->index;
	double		tolerance = 4 * WINNOW_SUM_ERROR(index->dims);
	float		found[2];
	float		expected[2];

	StaticAssertStmt(sizeof(found) == WINNOW_CODE_HEAD, "a code starts with two floats");
	winnow_encode(vector, row->centroid, index->dims, check->code);
	memcpy(found, row->code, sizeof(found));

	/* written without knowing the vector: it claims nothing */
	if (isinf(found[0]))
		return true;
	memcpy(expected, check->code, sizeof(expected));
	return agree(found[0], expected[0], tolerance) &&
		agree(found[1], expected[1], tolerance) &&
		memcmp(row->code + WINNOW_CODE_HEAD, check->code + WINNOW_CODE_HEAD,
			   index->code_bytes - WINNOW_CODE_HEAD) == 0 &&
		(row->refinement == NULL || check_refinement(index, row, vector));
}

/* Take note of a block that was read.  Returns false if it was met before. */
static bool
note_block(WinnowCheck *check, BlockNumber block)
{
	if (block >= check->nseen)
	{
		uint64		wanted = ((uint64) block * 2 / 64 + 1) * 64;

		check->seen = repalloc_huge(check->seen, wanted / 8);
		memset(check->seen + check->nseen / 64, 0, (wanted - check->nseen) / 8);
		check->nseen = wanted;
	}
	if (winnow_bit_get(check->seen, block))
		return false;
	winnow_bit_set(check->seen, block);
	return true;
}

/* A block that the tree has once; false if replay may have made another page of it meanwhile */
static bool
note_new_block(WinnowCheck *check, BlockNumber block)
{
	if (note_block(check, block))
		return true;
	if (!winnow_check_replayed(check))
		winnow_corrupted(check->rel, block, "It is in two places of the tree.");
	return false;
}

/* Turn to one of the groups */
static void
use_group(NodeCheck *node, int g)
{
	node->block = node->heads.blocks[g];
	node->head = node->heads.pages[g].data;
	node->asof = winnow_page_asof(node->head);
	node->data_page = -1;
}

/* What can be said of a head page alone */
static void
check_head(WinnowCheck *check, NodeCheck *node)
{
	const WinnowGroup *group = WinnowPageGetGroup(node->head);
	const WinnowLayout *layout = winnow_layout(check->index, node->level);
	const uint64 *removed = winnow_removed_bits(layout, node->heads.pages[0].data, node->head);

	if ((group->flags & ~WINNOW_RETIRED) != 0)
		winnow_corrupted(check->rel, node->block, "It has unknown flags.");
	if ((group->flags & WINNOW_RETIRED) && !winnow_check_replayed(check))
		winnow_corrupted(check->rel, node->block, "It is retired, but the tree still has it.");
	if (group->ndata != winnow_data_pages(layout, group->number, group->nrows))
		winnow_corrupted(check->rel, node->block,
						 psprintf("It has %d data pages, and its %d rows need %d.", group->ndata,
								  group->nrows,
								  winnow_data_pages(layout, group->number, group->nrows)));

	/*
	 * Rows only go to a new group when the slots of the others have all been
	 * used.
	 */
	if (BlockNumberIsValid(group->next) &&
		group->nrows < layout->capacity)
		winnow_corrupted(check->rel, node->block, "It has a next group, but is not full.");
	if (group->number == 0)
		for (int w = node->heads.ngroups * layout->group_words; w < winnow_map_words(layout); w++)
			if (winnow_removed_map(layout, node->head)[w] != 0)
				winnow_corrupted(check->rel, node->block,
								 "It has removed bits of a group that there is not.");
	for (int slot = group->nrows; slot < layout->group_words * 64; slot++)
		if (winnow_bit_get(removed, slot))
			winnow_corrupted(check->rel, node->block,
							 psprintf("Slot %d has lost its row, but never had one.", slot));
}

/*
 * The group's data pages: met once, but for one that it shares with the group
 * before it, and long enough for what is on them, since what lies behind their
 * end is not logged.  Returns false if one is gone.
 */
static bool
check_data_pages(WinnowCheck *check, NodeCheck *node)
{
	const WinnowIndex *index = check->index;
	const WinnowGroup *group = WinnowPageGetGroup(node->head);
	const WinnowLayout *layout = winnow_layout(index, node->level);
	bool		shares = winnow_data_shared(layout, group->number);
	Size		centroid_left = group->number == 0 ? sizeof(float) * index->dims : 0;
	int			slot = 0;

	for (int p = 0; p < group->ndata; p++)
	{
		Size		end = Min(centroid_left, WINNOW_PAGE_USABLE);
		Buffer		buffer;
		Size		lower;

		centroid_left -= end;
		for (; slot < group->nrows; slot++)
		{
			int			page;
			int			offset;

			winnow_code_place(layout, group->number, slot, &page, &offset);
			if (page != p)
				break;
			end = offset + index->code_bytes;
		}
		buffer = winnow_try_read_page(check->rel, group->data[p], WINNOW_PAGE_DATA, node->asof,
									  BUFFER_LOCK_SHARE);
		if (BufferIsInvalid(buffer))
			return false;
		lower = ((PageHeader) BufferGetPage(buffer))->pd_lower;
		UnlockReleaseBuffer(buffer);
		if (p > 0 || !shares)
		{
			if (!note_new_block(check, group->data[p]))
				return false;
		}
		else if (group->data[p] != node->last_data)
			winnow_corrupted(check->rel, node->block,
							 "Its codes do not go on where those of the group before it end.");
		node->last_data = group->data[p];
		if (lower < MAXALIGN(SizeOfPageHeaderData) + end)
			winnow_corrupted(check->rel, group->data[p],
							 "It ends before the codes that are on it do.");
	}
	return true;
}

/*
 * The pages with the group's records, likewise, which lie one behind the other.
 */
static bool
check_record_pages(WinnowCheck *check, NodeCheck *node)
{
	const WinnowGroup *group = WinnowPageGetGroup(node->head);
	const WinnowLayout *layout = winnow_layout(check->index, node->level);
	const BlockNumber *blocks = winnow_record_blocks(layout, group);

	if (group->nrecord_pages != winnow_record_page_count(layout, group->nrows))
		winnow_corrupted(check->rel, node->block,
						 psprintf("It has %d pages with records, and its %d rows need %d.",
								  group->nrecord_pages, group->nrows,
								  winnow_record_page_count(layout, group->nrows)));
	for (int p = 0; p < group->nrecord_pages; p++)
	{
		Buffer		buffer = winnow_try_read_page(check->rel, blocks[p], WINNOW_PAGE_DATA,
												  node->asof, BUFFER_LOCK_SHARE);
		int			lower;

		if (BufferIsInvalid(buffer))
			return false;
		lower = ((PageHeader) BufferGetPage(buffer))->pd_lower;
		UnlockReleaseBuffer(buffer);
		if (!note_new_block(check, blocks[p]))
			return false;
		if (lower < (int) MAXALIGN(SizeOfPageHeaderData) +
			winnow_record_page_end(layout, p, group->nrows))
			winnow_corrupted(check->rel, blocks[p],
							 "It ends before the records that are on it do.");
	}
	return true;
}

/*
 * The code of a row, in a copy that is good until another page's is asked for;
 * NULL if its page is gone.
 */
static const uint8 *
row_code(WinnowCheck *check, NodeCheck *node, int slot)
{
	const WinnowGroup *group = WinnowPageGetGroup(node->head);
	int			page;
	int			offset;

	winnow_code_place(winnow_layout(check->index, node->level), group->number, slot, &page,
					  &offset);
	if (page != node->data_page)
	{
		Buffer		buffer = winnow_try_read_page(check->rel, group->data[page],
												  WINNOW_PAGE_DATA, node->asof,
												  BUFFER_LOCK_SHARE);

		if (BufferIsInvalid(buffer))
			return NULL;
		memcpy(node->data.data, BufferGetPage(buffer), BLCKSZ);
		UnlockReleaseBuffer(buffer);
		node->data_page = page;
	}
	return (const uint8 *) PageGetContents(node->data.data) + offset;
}

static bool check_node(WinnowCheck *check, BlockNumber block, int level, XLogRecPtr asof,
					   const WinnowCheckedRow *parent);

/* A row of an inner node, and the child it names.  Returns false if a page is gone. */
static bool
check_child(WinnowCheck *check, NodeCheck *node, const WinnowCheckedRow *row)
{
	/* a few rows stand for those inserted (insert.c) */
	uint64		most = (uint64) RelationGetNumberOfBlocks(check->rel) *
		check->index->leaf.capacity * 2;
	WinnowChildStats stats;

	memcpy(&stats, row->image, sizeof(stats));
	if (stats.rows == 0 || stats.rows > most)
		winnow_check_failed(check, row,
							psprintf("claims an impossible number of rows, %u, for its child, block %u",
									 stats.rows, (BlockNumber) row->id));
	if (!(stats.radius2 >= 0 && stats.farthest2 >= 0))
		winnow_check_failed(check, row,
							psprintf("has a negative radius for its child, block %u",
									 (BlockNumber) row->id));
	winnow_summary_add_summary(&check->index->schema, node->below,
							   row->image + sizeof(WinnowChildStats));
	return check_node(check, (BlockNumber) row->id, node->level - 1, row->asof, row);
}

/* Returns false if a page is gone */
static bool
check_rows(WinnowCheck *check, NodeCheck *node)
{
	const WinnowGroup *group = WinnowPageGetGroup(node->head);
	const WinnowLayout *layout = winnow_layout(check->index, node->level);
	Page		first = node->heads.pages[0].data;

	for (int slot = 0; slot < group->nrows; slot++)
	{
		WinnowCheckedRow row;

		if (!winnow_is_live(layout, first, node->head, slot))
			continue;
		node->nrows++;
		row.node = node->node;
		row.block = node->block;
		row.asof = node->asof;
		row.slot = slot;
		winnow_row_image(layout, node->head, slot, node->image);
		row.id = winnow_row_id(layout, node->head, slot);
		row.image = node->image;
		row.code = row_code(check, node, slot);
		row.centroid = node->centroid;
		if (row.code == NULL)
			return false;
		row.refinement = NULL;
		row.imprint = NULL;
		if (layout->record_bytes > 0)
		{
			uint8	   *record = node->level == 0 ? check->record : node->image + layout->imprint_offset;

			if (!winnow_record_read(check->rel, layout, node->block,
									winnow_record_blocks(layout, group),
									group->nrecord_pages, slot, node->asof, record))
				return false;
			if (node->level == 0)
				row.refinement = record;
			else
				row.imprint = record;
		}
		if (node->level == 0)
		{
			winnow_summary_add_row(&check->index->schema, node->below, node->image);
			winnow_imprint_add_row(&check->index->schema, node->imprint, node->image);
			winnow_check_heap_row(check, &row);
		}
		else if (!check_child(check, node, &row))
			return false;
	}
	return true;
}

/* Is the row's node retired, or gone even? */
static bool
is_retired(WinnowCheck *check, const WinnowCheckedRow *row)
{
	Buffer		buffer = winnow_try_read_head(check->index, check->rel, row->node, -1, row->asof,
											  BUFFER_LOCK_SHARE);
	bool		retired;

	if (BufferIsInvalid(buffer))
		return true;
	retired = (WinnowPageGetGroup(BufferGetPage(buffer))->flags & WINNOW_RETIRED) != 0;

	UnlockReleaseBuffer(buffer);
	return retired;
}

/*
 * What the parent says of a node: the code of its centroid, and a summary of
 * its rows.  The rows may be newer than the copy of the parent's page, which
 * is why a summary that is too narrow is read again.  That of a parent retired
 * meanwhile is not widened any more.
 */
static void
check_parent(WinnowCheck *check, NodeCheck *node)
{
	const WinnowSchema *schema = &check->index->schema;
	const WinnowLayout *layout = &check->index->inner;
	const WinnowCheckedRow *row = node->parent;
	bool		right_code = winnow_check_code(check, row, node->centroid);
	Buffer		first;
	Buffer		buffer;
	Page		page;
	bool		current;
	bool		gone;

	if (right_code &&
		winnow_summary_covers_summary(schema, row->image + sizeof(WinnowChildStats), node->below) &&
		(row->imprint == NULL || winnow_imprint_covers(schema, row->imprint, node->imprint)))
		return;

	first = winnow_try_read_head(check->index, check->rel, row->node, node->level + 1, row->asof,
								 BUFFER_LOCK_SHARE);
	if (BufferIsInvalid(first))
		return;
	buffer = row->block == row->node ?
		first :
		winnow_try_read_head(check->index, check->rel, row->block, node->level + 1, row->asof,
							 BUFFER_LOCK_SHARE);
	if (BufferIsInvalid(buffer))
	{
		UnlockReleaseBuffer(first);
		return;
	}
	page = BufferGetPage(buffer);
	current = winnow_is_live(layout, BufferGetPage(first), page, row->slot) &&
		winnow_row_id(layout, page, row->slot) == row->id;
	winnow_row_image(layout, page, row->slot, node->image);
	gone = layout->record_bytes > 0 &&
		!winnow_record_read(check->rel, layout, row->block,
							winnow_record_blocks(layout, WinnowPageGetGroup(page)),
							WinnowPageGetGroup(page)->nrecord_pages, row->slot,
							winnow_page_asof(page), node->image + layout->imprint_offset);
	winnow_step_unlock(first, buffer);
	if (gone)
		return;
	/* on a standby that may have lost bits meanwhile, which the rows met before VACUUM had */
	if (row->imprint != NULL)
		winnow_imprint_add(schema, node->image + layout->imprint_offset, row->imprint);
	if (winnow_check_replayed(check) && (!current || is_retired(check, row)))
		return;
	if (!right_code)
		winnow_check_failed(check, row,
							psprintf("has a code that is not of its child, block %u", node->node));
	if (!winnow_summary_covers_summary(schema, node->image + sizeof(WinnowChildStats),
									   node->below))
		winnow_check_failed(check, row,
							psprintf("has a summary that does not hold for its child, block %u",
									 node->node));
	if (!winnow_imprint_covers(schema, node->image + layout->imprint_offset, node->imprint))
		winnow_check_failed(check, row,
							psprintf("has an imprint that does not hold for its child, block %u",
									 node->node));
}

/* Check a node, and what is below it.  Returns false if a page is gone. */
static bool
check_node(WinnowCheck *check, BlockNumber block, int level, XLogRecPtr asof,
		   const WinnowCheckedRow *parent)
{
	const WinnowIndex *index = check->index;
	NodeCheck  *node = check->nodes[level];
	const WinnowGroup *group;

	if (node == NULL)
	{
		node = check->nodes[level] = palloc0(sizeof(NodeCheck));
		node->level = level;
		node->centroid = palloc(sizeof(float) * index->dims);
		node->image = palloc(Max(index->inner.image_bytes, Max(index->leaf.image_bytes, 1)));
		node->below = palloc(Max(index->schema.inner_bytes, 1));
		node->imprint = palloc(Max(index->schema.imprint_bytes, 1));
	}
	node->node = block;
	node->nrows = 0;
	node->parent = parent;
	winnow_summary_reset(&index->schema, node->below);
	winnow_imprint_reset(&index->schema, node->imprint, level);
	if (!winnow_heads_copy(check->rel, index, block, level, asof, InvalidBuffer, &node->heads))
		return false;
	for (int g = 0; g < node->heads.ngroups; g++)
	{
		use_group(node, g);
		if (g > 0)
		{
			if (!note_new_block(check, node->block))
				return false;
		}
		else if (!note_block(check, block))
		{
			if (winnow_check_replayed(check))
				return true;
			winnow_corrupted(check->rel, block, "It is in two places of the tree.");
		}
		check_head(check, node);
		group = WinnowPageGetGroup(node->head);
		if (!check_data_pages(check, node) || !check_record_pages(check, node) ||
			(g == 0 &&
			 !winnow_centroid_read(check->rel, index, group->data, group->ndata, node->asof,
								   node->centroid)) ||
			!check_rows(check, node))
			return false;
	}
	if (level > 0 && node->nrows == 0)
		winnow_corrupted(check->rel, block, "An inner node has no children.");
	if (parent != NULL)
		check_parent(check, node);
	return true;
}

/*
 * The meta page against the catalog.  Returns the description of the index that
 * the page gives, whatever the relation's cache holds.
 */
static WinnowIndex *
check_meta_page(Relation rel, BlockNumber *root, XLogRecPtr *asof)
{
	WinnowMeta	meta = winnow_read_meta(rel, asof);
	WinnowIndex *index = winnow_index_create(rel, &meta, CurrentMemoryContext);
	WinnowMeta	expected;

	winnow_meta_fill(rel, &expected);
	if (meta.dims != expected.dims)
		winnow_corrupted(rel, WINNOW_META_BLOCK,
						 "The meta page has other dimensions than the vector column.");
	if (meta.metric != expected.metric)
		winnow_corrupted(rel, WINNOW_META_BLOCK,
						 "The meta page has another metric than the operator class.");
	*root = meta.root;
	return index;
}

/* Walk the tree once, from the root.  Returns false if a page is gone. */
static bool
check_tree(WinnowCheck *check)
{
	XLogRecPtr	asof;
	BlockNumber root;
	Buffer		buffer;
	int			level;

	if (check->standby)
	{
		check->replay_began = GetXLogReplayRecPtr(NULL);
		/* in the midst of a record: anything may have changed */
		if (GetCurrentReplayRecPtr(NULL) != check->replay_began)
			check->replay_began = InvalidXLogRecPtr;
	}
	check->index = check_meta_page(check->rel, &root, &asof);
	check->code = palloc(check->index->code_bytes);
	check->record = palloc(Max(check->index->leaf.record_bytes, 1));
	check->nseen = ((uint64) RelationGetNumberOfBlocks(check->rel) / 64 + 1) * 64;
	check->seen = palloc_extended(check->nseen / 8, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	memset(check->nodes, 0, sizeof(check->nodes));
	winnow_check_heap_begin(check);

	(void) note_new_block(check, WINNOW_META_BLOCK);
	buffer = winnow_try_read_head(check->index, check->rel, root, -1, asof, BUFFER_LOCK_SHARE);
	if (BufferIsInvalid(buffer))
		return false;
	level = WinnowPageGetGroup(BufferGetPage(buffer))->level;
	UnlockReleaseBuffer(buffer);
	return check_node(check, root, level, asof, NULL);
}

/* Take the structure lock.  To stand in line for it would cancel autovacuum after a second. */
static void
wait_for_structure(Relation rel)
{
	while (!winnow_structure_try_lock(rel))
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, CHECK_WAIT_MS,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

static void
check_index(Relation heap, Relation rel, bool heapallindexed)
{
	WinnowCheck check = {0};

	check.heap = heap;
	check.rel = rel;

	/* nothing but replay changes a standby's pages, and it takes no such lock */
	check.standby = RecoveryInProgress();
	if (!check.standby)
		wait_for_structure(rel);
	while (!check_tree(&check))
	{
		winnow_check_heap_cancel(&check);
		winnow_page_gone(rel, winnow_check_replayed(&check), &check.restarts);
		MemoryContextReset(CurrentMemoryContext);
	}
	if (!check.standby)
		winnow_structure_unlock(rel);

	winnow_check_heap_end(&check, heapallindexed);
}

/*
 * winnow_check(index regclass, heapallindexed boolean)
 *
 * Index expressions are run as the table's owner would, since it is he who
 * wrote them.
 */
PG_FUNCTION_INFO_V1(winnow_check);
Datum
winnow_check(PG_FUNCTION_ARGS)
{
	Oid			indexid = PG_GETARG_OID(0);
	Oid			heapid = IndexGetRelation(indexid, true);
	Relation	heap;
	Relation	rel;
	WinnowUser	user;
	MemoryContext context;
	MemoryContext old;

	/* tables are locked before their indexes */
	if (!OidIsValid(heapid))
		relation_close(winnow_index_relation(indexid, AccessShareLock), AccessShareLock);
	heap = table_open(heapid, AccessShareLock);
	rel = winnow_index_relation(indexid, AccessShareLock);
	if (rel->rd_index->indrelid != heapid)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("could not open parent table of index \"%s\"",
						RelationGetRelationName(rel))));
	if (!winnow_may_run(heap, rel))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to check index \"%s\"", RelationGetRelationName(rel)),
				 errdetail("It calls functions that look names up by your search_path, with the rights of the owner of table \"%s\".",
						   RelationGetRelationName(heap)),
				 errhint("Let the owner check it, or give these functions a search_path of their own: ALTER FUNCTION ... SET search_path.")));
	winnow_become_owner(heap, &user);

	context = AllocSetContextCreate(CurrentMemoryContext, "winnow check",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	check_index(heap, rel, PG_GETARG_BOOL(1));
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);

	winnow_become_user(&user);
	relation_close(rel, AccessShareLock);
	table_close(heap, AccessShareLock);
	PG_RETURN_VOID();
}
