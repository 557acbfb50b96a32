/*
 * split.c
 *		A node that is too full becomes two.
 *
 * DESIGN.md, section 6, says in which order pages are written and why every
 * state in between is a whole tree.
 */
#include "postgres.h"

#include "winnow.h"

#include "core/kmeans.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* Splits tried without holding the node's lock before giving that up */
#define OPTIMISTIC_TRIES 3

/* A list this many times too large is split even if that means to wait */
#define PATIENCE 4

/* A node as it was when it was copied */
typedef struct NodeCopy
{
	int			level;
	int			ngroups;
	BlockNumber *blocks;		/* of its head pages */
	char	   *pages;			/* and their images */
	WinnowRows	rows;
} NodeCopy;

typedef struct SplitState
{
	Relation	rel;
	Relation	heap;
	const WinnowIndex *index;
	BlockNumber node;			/* what is split */
	const WinnowStep *step;		/* its row in the parent; NULL for the root */
} SplitState;

static void
split_tick(void *arg)
{
	CHECK_FOR_INTERRUPTS();
}

/* Copy the head pages of a node; the first may be locked by the caller */
static void
copy_pages(SplitState *split, Buffer locked, NodeCopy *copy)
{
	BlockNumber block = split->node;
	WinnowChain chain;
	int			allocated = 4;

	winnow_chain_start(&chain, block);
	copy->ngroups = 0;
	copy->level = -1;
	copy->blocks = palloc(sizeof(BlockNumber) * allocated);
	copy->pages = palloc((Size) BLCKSZ * allocated);
	while (BlockNumberIsValid(block))
	{
		bool		mine = BufferIsValid(locked) && block == split->node;
		Buffer		buffer = mine ? locked :
			winnow_read_head(split->index, split->rel, block, copy->level, BUFFER_LOCK_SHARE);
		Page		page = BufferGetPage(buffer);

		winnow_chain_follow(split->rel, &chain, block, page);
		if (copy->ngroups == allocated)
		{
			allocated *= 2;
			copy->blocks = repalloc(copy->blocks, sizeof(BlockNumber) * allocated);
			copy->pages = repalloc_huge(copy->pages, (Size) BLCKSZ * allocated);
		}
		copy->blocks[copy->ngroups] = block;
		memcpy(copy->pages + (Size) BLCKSZ * copy->ngroups++, page, BLCKSZ);
		copy->level = WinnowPageGetGroup(page)->level;
		block = WinnowPageGetGroup(page)->next;
		if (!mine)
			UnlockReleaseBuffer(buffer);
	}
}

/* Is the node, whose first head page is locked, still what was copied? */
static bool
copy_is_current(SplitState *split, Buffer first, const NodeCopy *copy)
{
	if (memcmp(BufferGetPage(first), copy->pages, BLCKSZ) != 0)
		return false;
	for (int g = 1; g < copy->ngroups; g++)
	{
		Buffer		buffer = winnow_read_head(split->index, split->rel, copy->blocks[g],
											  copy->level, BUFFER_LOCK_SHARE);
		bool		same = memcmp(BufferGetPage(buffer), copy->pages + (Size) BLCKSZ * g,
								  BLCKSZ) == 0;

		UnlockReleaseBuffer(buffer);
		if (!same)
			return false;
	}
	return true;
}

/* Centroid of a child, as the vector of its row */
static void
child_vector(SplitState *split, int level, BlockNumber child, WinnowView *view, float *vector)
{
	winnow_view_read(split->rel, split->index, child, level, NULL, view);
	winnow_centroid_read(split->rel, split->index, view->data, view->ndata, vector);
}

/*
 * The vector of a leaf row, from the heap.  Returns false if the row has been
 * deleted or was never committed: VACUUM may be removing its out-of-line
 * values, so they cannot be read, but on a standby there may be a snapshot that
 * sees the row, so it cannot be left out either.
 */
static bool
row_vector(SplitState *split, WinnowFetch *fetch, uint64 id, float *vector)
{
	int			attno = split->index->schema.vector_attno;
	Datum		values[INDEX_MAX_KEYS];
	bool		isnull[INDEX_MAX_KEYS];
	SnapshotData dirty;
	MemoryContext old;

	InitDirtySnapshot(dirty);
	if (!winnow_fetch_row(fetch, id, &dirty, values, isnull))
		return false;
	if (isnull[attno])
		winnow_corrupted(split->rel, split->node, "A row's vector is null in the table.");
	old = MemoryContextSwitchTo(winnow_fetch_context(fetch));
	winnow_index_vector(split->index, values[attno], vector);
	MemoryContextSwitchTo(old);
	return true;
}

static void
allocate_rows(const WinnowIndex *index, int level, WinnowRows *rows, int count)
{
	Size		images = (Size) winnow_layout(index, level)->image_bytes * count;

	memset(rows, 0, sizeof(*rows));
	rows->ids = palloc(sizeof(uint64) * Max(count, 1));
	rows->images = palloc_extended(Max(images, 1), MCXT_ALLOC_HUGE);
	rows->vectors = palloc_extended(Max(sizeof(float) * index->dims * count, 1), MCXT_ALLOC_HUGE);
}

static void
add_row(const WinnowIndex *index, int level, WinnowRows *rows, uint64 id, const uint8 *image)
{
	int			image_bytes = winnow_layout(index, level)->image_bytes;

	rows->ids[rows->count] = id;
	memcpy(rows->images + (Size) rows->count * image_bytes, image, image_bytes);
	rows->count++;
}

/* The live rows of the copy; those without a known vector are at the end */
static void
load_rows(SplitState *split, NodeCopy *copy)
{
	const WinnowIndex *index = split->index;
	const WinnowLayout *layout = winnow_layout(index, copy->level);
	int			capacity = copy->ngroups * layout->capacity;
	WinnowRows *rows = &copy->rows;
	WinnowRows	unknown;
	WinnowFetch *fetch = NULL;
	WinnowView *view = NULL;
	uint8	   *image = palloc(Max(layout->image_bytes, 1));

	allocate_rows(index, copy->level, rows, capacity);
	allocate_rows(index, copy->level, &unknown, capacity);
	if (copy->level == 0)
		fetch = winnow_fetch_begin(split->heap, split->rel, index->schema.vector_attno, false);
	else
		view = winnow_view_alloc(index);

	for (int g = 0; g < copy->ngroups; g++)
	{
		Page		page = copy->pages + (Size) BLCKSZ * g;

		for (int slot = 0; slot < WinnowPageGetGroup(page)->nrows; slot++)
		{
			uint64		id = winnow_row_id(layout, page, slot);
			float	   *vector = rows->vectors + (Size) rows->count * index->dims;
			bool		known = true;

			if (!winnow_bit_get(winnow_live_bits(layout, page), slot))
				continue;
			if (copy->level > 0)
				child_vector(split, copy->level - 1, (BlockNumber) id, view, vector);
			else
				known = row_vector(split, fetch, id, vector);
			winnow_row_image(layout, page, slot, image);
			add_row(index, copy->level, known ? rows : &unknown, id, image);
		}
	}
	if (fetch)
		winnow_fetch_end(fetch);
	rows->nknown = rows->count;
	for (int i = 0; i < unknown.count; i++)
		add_row(index, copy->level, rows, unknown.ids[i],
				unknown.images + (Size) i * layout->image_bytes);
}

/*
 * Part the rows in two by balanced 2-means; those without a known vector are
 * shared out.
 */
static void
part_rows(const WinnowIndex *index, int level, const WinnowRows *rows, WinnowRows *parts)
{
	const WinnowLayout *layout = winnow_layout(index, level);
	uint8	   *side = palloc(Max(rows->count, 1));
	float	   *centroids = palloc(sizeof(float) * 2 * index->dims);
	void	   *scratch = palloc_extended(winnow_split_scratch_bytes(Max(rows->nknown, 1), index->dims),
										  MCXT_ALLOC_HUGE);
	int			nsecond = 0;

	if (rows->nknown > 0)
		winnow_split_two(rows->vectors, rows->nknown, index->dims, rows->nknown, centroids,
						 side, scratch, split_tick, NULL);
	for (int i = rows->nknown; i < rows->count; i++)
		side[i] = i % 2;
	for (int i = 0; i < rows->count; i++)
		nsecond += side[i];
	allocate_rows(index, level, &parts[0], rows->count - nsecond);
	allocate_rows(index, level, &parts[1], nsecond);
	for (int i = 0; i < rows->count; i++)
	{
		WinnowRows *part = &parts[side[i]];

		if (i < rows->nknown)
			memcpy(part->vectors + (Size) part->nknown++ * index->dims,
				   rows->vectors + (Size) i * index->dims, sizeof(float) * index->dims);
		add_row(index, level, part, rows->ids[i],
				rows->images + (Size) i * layout->image_bytes);
	}
}

/* The root's place is taken by a new root over the two nodes */
static void
switch_root(SplitState *split, int level, WinnowNode *const *nodes)
{
	const WinnowIndex *index = split->index;
	WinnowNode *root = winnow_node_alloc(index);
	WinnowRows	rows;
	GenericXLogState *xlog;
	Buffer		meta;

	if (level + 1 >= WINNOW_MAX_LEVELS)
		winnow_corrupted(split->rel, split->node, "The tree is too deep.");
	rows.count = 2;
	rows.nknown = 2;
	rows.ids = palloc(sizeof(uint64) * 2);
	rows.images = palloc((Size) index->inner.image_bytes * 2);
	rows.vectors = palloc(sizeof(float) * index->dims * 2);
	for (int p = 0; p < 2; p++)
	{
		rows.ids[p] = nodes[p]->block;
		memcpy(rows.images + (Size) p * index->inner.image_bytes, nodes[p]->image,
			   index->inner.image_bytes);
		memcpy(rows.vectors + (Size) p * index->dims, nodes[p]->centroid,
			   sizeof(float) * index->dims);
	}
	winnow_node_write(split->rel, MAIN_FORKNUM, index, level + 1, &rows, true, root);

	/*
	 * The meta page comes first in the lock order, but nobody who holds it
	 * waits for another page.
	 */
	meta = winnow_read_page(split->rel, WINNOW_META_BLOCK, WINNOW_PAGE_META,
							BUFFER_LOCK_EXCLUSIVE);
	xlog = GenericXLogStart(split->rel);
	WinnowPageGetMeta(GenericXLogRegisterBuffer(xlog, meta, 0))->root = root->block;
	GenericXLogFinish(xlog);
	UnlockReleaseBuffer(meta);
}

/*
 * In the parent, whose head pages are locked, the row of the old node becomes
 * that of the first new node and a row for the second comes to life, in one
 * record.
 * Returns the number of children the parent has then.
 */
static int
switch_children(SplitState *split, Buffer first, Buffer group, WinnowNode *const *nodes)
{
	const WinnowIndex *index = split->index;
	WinnowGroup *header = WinnowPageGetGroup(BufferGetPage(first));
	float	   *centroid = palloc(sizeof(float) * index->dims);
	uint8	   *codes[2];
	WinnowRoom	room;
	GenericXLogState *xlog;
	Buffer		data;
	BlockNumber data_block;
	int			page;
	int			offset;

	winnow_centroid_read(split->rel, index, header->data, header->ndata, centroid);
	for (int p = 0; p < 2; p++)
	{
		codes[p] = palloc(index->code_bytes);
		winnow_encode(nodes[p]->centroid, centroid, index->dims, codes[p]);
	}

	winnow_room_find(split->rel, index, first, group, &room);
	header = WinnowPageGetGroup(BufferGetPage(group));
	winnow_code_place(index->dims, group == first, split->step->slot, &page, &offset);
	if (page >= header->ndata)
		winnow_corrupted(split->rel, split->step->group, "A row has no code.");
	data_block = header->data[page];
	data = data_block == BufferGetBlockNumber(room.data) ? room.data :
		winnow_read_page(split->rel, data_block, WINNOW_PAGE_DATA, BUFFER_LOCK_EXCLUSIVE);

	/* five pages are one too many: the new row's code is written first */
	xlog = GenericXLogStart(split->rel);
	winnow_room_fill_code(index, xlog, &room, codes[1]);
	GenericXLogFinish(xlog);

	/*
	 * The first head page comes first, changed or not: replay then waits for
	 * the readers that hold it, as this backend did.
	 */
	xlog = GenericXLogStart(split->rel);
	GenericXLogRegisterBuffer(xlog, first, 0);
	winnow_row_store(&index->inner, GenericXLogRegisterBuffer(xlog, group, 0),
					 split->step->slot, nodes[0]->block, nodes[0]->image);
	winnow_code_store(index, GenericXLogRegisterBuffer(xlog, data, 0), offset, codes[0]);
	winnow_room_fill_row(xlog, &room, nodes[1]->block, nodes[1]->image);
	GenericXLogFinish(xlog);

	if (data != room.data)
		UnlockReleaseBuffer(data);
	winnow_room_release(&room);
	return room.nlive + 1;
}

/*
 * Split one node.  Returns the number of children its parent has then; 0 if
 * there was no parent, or nothing to split.  Several tries may be needed
 * because rows arrive meanwhile; the last keeps them out.
 */
static int
split_node(SplitState *split)
{
	for (int attempt = 0;; attempt++)
	{
		bool		hold = attempt >= OPTIMISTIC_TRIES;
		Buffer		parent = InvalidBuffer;
		Buffer		group = InvalidBuffer;
		Buffer		first = InvalidBuffer;
		NodeCopy	copy;
		WinnowRows	parts[2];
		WinnowNode *nodes[2];
		int			nchildren = 0;

		MemoryContextReset(CurrentMemoryContext);
		if (!hold)
		{
			copy_pages(split, InvalidBuffer, &copy);
			load_rows(split, &copy);
			part_rows(split->index, copy.level, &copy.rows, parts);
		}
		if (split->step &&
			!winnow_step_lock(split->rel, split->index, split->step, BUFFER_LOCK_EXCLUSIVE,
							  &parent, &group))
			return 0;
		first = winnow_read_head(split->index, split->rel, split->node, -1,
								 BUFFER_LOCK_EXCLUSIVE);
		if (hold)
		{
			copy_pages(split, first, &copy);
			load_rows(split, &copy);
			part_rows(split->index, copy.level, &copy.rows, parts);
		}
		else if (!copy_is_current(split, first, &copy))
		{
			UnlockReleaseBuffer(first);
			if (split->step)
				winnow_step_unlock(parent, group);
			continue;
		}

		if (copy.rows.nknown >= 2)
		{
			/* made before the switch: an error after it must not keep this away */
			GenericXLogState *retire = GenericXLogStart(split->rel);

			WinnowPageGetGroup(GenericXLogRegisterBuffer(retire, first, 0))->flags |= WINNOW_RETIRED;
			for (int p = 0; p < 2; p++)
			{
				nodes[p] = winnow_node_alloc(split->index);
				winnow_node_write(split->rel, MAIN_FORKNUM, split->index, copy.level,
								  &parts[p], true, nodes[p]);
			}
			if (split->step)
				nchildren = switch_children(split, parent, group, nodes);
			else
				switch_root(split, copy.level, nodes);
			GenericXLogFinish(retire);
		}
		UnlockReleaseBuffer(first);
		if (split->step)
			winnow_step_unlock(parent, group);
		return nchildren;
	}
}

/* Do the steps still lead from the root to the leaf? */
static bool
path_is_current(Relation rel, const WinnowIndex *index, const WinnowPath *path)
{
	BlockNumber node = winnow_read_root(rel);

	for (int i = 0; i < path->nsteps; i++)
	{
		Buffer		first;
		Buffer		group;

		if (path->steps[i].node != node ||
			!winnow_step_lock(rel, index, &path->steps[i], BUFFER_LOCK_SHARE, &first, &group))
			return false;
		winnow_step_unlock(first, group);
		node = path->steps[i].child;
	}
	return node == path->leaf;
}

/*
 * Split the leaf at the end of the path, which has nlive rows, and then its
 * ancestors as far as they have become too full.  Does nothing if another split
 * or a vacuum is under way, or the path is out of date: the next insert into the
 * leaf tries again.  No buffer may be locked.
 */
void
winnow_split(Relation rel, Relation heap, const WinnowIndex *index, const WinnowPath *path,
			 int nlive)
{
	SplitState	split = {rel, heap, index, path->leaf, NULL};
	int			depth = path->nsteps;
	MemoryContext context;
	MemoryContext old;

	if (nlive > PATIENCE * index->list_size)
		winnow_structure_lock(rel);
	else if (!winnow_structure_try_lock(rel))
		return;
	context = AllocSetContextCreate(CurrentMemoryContext, "winnow split",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	if (path_is_current(rel, index, path))
	{
		int			nchildren;

		do
		{
			split.node = depth == path->nsteps ? path->leaf : path->steps[depth].node;
			split.step = depth > 0 ? &path->steps[depth - 1] : NULL;
			nchildren = split_node(&split);
			depth--;
			MemoryContextReset(context);
		} while (nchildren > index->list_size);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	winnow_structure_unlock(rel);
}
