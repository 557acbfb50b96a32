/*
 * replace.c
 *		Children of an inner node are replaced by others: how a node is split, how
 *		two are merged, and how one that is empty is dropped.
 *
 * DESIGN.md, section 6, says in which order pages are written and why every
 * state in between is a whole tree.
 */
#include "postgres.h"

#include "fetch.h"

#include "access/transam.h"
#include "miscadmin.h"
#include "utils/memutils.h"

/* Replacements tried without holding the nodes' locks before giving that up */
#define OPTIMISTIC_TRIES 3

/* One attempt at a replacement */
typedef struct Attempt
{
	WinnowReplacement *wanted;
	WinnowHeads copies[WINNOW_MAX_REPLACED];
	int			level;			/* of the nodes */
	WinnowRows	rows;			/* of all old nodes together */
	int			nnew;
	WinnowRows	parts[WINNOW_MAX_REPLACED]; /* rows of the new ones */
	WinnowNode *nodes[WINNOW_MAX_REPLACED];
	Buffer		parent;			/* first head page of the parent; locks of an attempt */
	Buffer		groups[WINNOW_MAX_REPLACED];	/* head pages of the rows there */
	Buffer		firsts[WINNOW_MAX_REPLACED];	/* first head pages of the old nodes */
} Attempt;

/* Is the node, whose first head page is locked, still what was copied? */
static bool
copy_is_current(const WinnowReplacement *wanted, Buffer first, const WinnowHeads *copy)
{
	if (memcmp(BufferGetPage(first), copy->pages, BLCKSZ) != 0)
		return false;
	for (int g = 1; g < copy->ngroups; g++)
	{
		Buffer		buffer = winnow_read_head(wanted->index, wanted->rel, copy->blocks[g],
											  -1, BUFFER_LOCK_SHARE);
		bool		same = memcmp(BufferGetPage(buffer), copy->pages[g].data, BLCKSZ) == 0;

		UnlockReleaseBuffer(buffer);
		if (!same)
			return false;
	}
	return true;
}

/* Room for so many rows of a level */
void
winnow_rows_allocate(const WinnowIndex *index, int level, WinnowRows *rows, int count)
{
	Size		images = (Size) winnow_layout(index, level)->image_bytes * count;

	memset(rows, 0, sizeof(*rows));
	rows->ids = palloc(sizeof(uint64) * Max(count, 1));
	rows->images = palloc_extended(Max(images, 1), MCXT_ALLOC_HUGE);
	rows->vectors = palloc_extended(Max(sizeof(float) * index->dims * count, 1), MCXT_ALLOC_HUGE);
}

void
winnow_rows_free(WinnowRows *rows)
{
	pfree(rows->ids);
	pfree(rows->images);
	pfree(rows->vectors);
}

/* One more row; its vector, if it is known, is the caller's to add */
void
winnow_rows_add(const WinnowIndex *index, int level, WinnowRows *rows, uint64 id,
				const uint8 *image)
{
	int			image_bytes = winnow_layout(index, level)->image_bytes;

	rows->ids[rows->count] = id;
	memcpy(rows->images + (Size) rows->count * image_bytes, image, image_bytes);
	rows->count++;
}

/*
 * The live rows of nodes that have been copied, all of one level, with their
 * vectors if they are wanted; those without a known vector are at the end.  That
 * is what a leaf row has that has been deleted or was never committed
 * (winnow_fetch_vector): it cannot be left out, since on a standby there may be a
 * snapshot that sees it.
 */
void
winnow_load_rows(Relation rel, Relation heap, const WinnowIndex *index,
				 const WinnowHeads *copies, int ncopies, bool vectors, WinnowRows *rows)
{
	int			level = WinnowPageGetGroup(copies[0].pages[0].data)->level;
	const WinnowLayout *layout = winnow_layout(index, level);
	int			capacity = 0;
	WinnowRows	unknown;
	WinnowFetch *fetch = NULL;
	uint8	   *image = palloc(Max(layout->image_bytes, 1));

	for (int n = 0; n < ncopies; n++)
		capacity += copies[n].ngroups * layout->capacity;
	winnow_rows_allocate(index, level, rows, capacity);
	winnow_rows_allocate(index, level, &unknown, capacity);
	if (level == 0)
		fetch = winnow_fetch_begin(heap, rel,
								   bms_make_singleton(index->schema.vector_attno));

	for (int n = 0; n < ncopies; n++)
		for (int g = 0; g < copies[n].ngroups; g++)
		{
			Page		page = copies[n].pages[g].data;

			for (int slot = 0; slot < WinnowPageGetGroup(page)->nrows; slot++)
			{
				uint64		id = winnow_row_id(layout, page, slot);
				float	   *vector = rows->vectors + (Size) rows->count * index->dims;
				bool		known = true;

				if (!winnow_is_live(layout, copies[n].pages[0].data, page, slot))
					continue;
				if (level > 0)
					winnow_node_centroid(rel, index, (BlockNumber) id, level - 1, vector, NULL);
				else
					known = vectors && winnow_fetch_vector(fetch, index, id, vector);
				winnow_row_image(layout, page, slot, image);
				if (level > 0)
					winnow_imprint_read(rel, index, page, copies[n].blocks[g], slot, image);
				winnow_rows_add(index, level, known ? rows : &unknown, id, image);
			}
		}
	if (fetch)
		winnow_fetch_end(fetch);
	rows->nknown = rows->count;
	for (int i = 0; i < unknown.count; i++)
		winnow_rows_add(index, level, rows, unknown.ids[i],
						unknown.images + (Size) i * layout->image_bytes);
}

/*
 * Take down what the old nodes hold, and share it out to the new ones; the write
 * function does so by itself, when they are locked
 */
static void
prepare(Attempt *attempt)
{
	WinnowReplacement *wanted = attempt->wanted;

	attempt->nnew = 0;
	if (wanted->write != NULL)
		return;
	memset(attempt->copies, 0, sizeof(attempt->copies));
	for (int n = 0; n < wanted->nold; n++)
		winnow_heads_copy(wanted->rel, wanted->index, wanted->old[n], -1, InvalidXLogRecPtr,
						  attempt->firsts[n], &attempt->copies[n]);
	attempt->level = WinnowPageGetGroup(attempt->copies[0].pages[0].data)->level;
	winnow_load_rows(wanted->rel, wanted->heap, wanted->index, attempt->copies, wanted->nold,
					 wanted->part != NULL, &attempt->rows);
	if (wanted->part != NULL)
		attempt->nnew = wanted->part(wanted->index, attempt->level, &attempt->rows,
									 attempt->parts);
}

static void
unlock(Attempt *attempt)
{
	WinnowReplacement *wanted = attempt->wanted;

	for (int n = 0; n < wanted->nold; n++)
	{
		if (BufferIsValid(attempt->firsts[n]))
			UnlockReleaseBuffer(attempt->firsts[n]);
		if (BufferIsValid(attempt->groups[n]) && attempt->groups[n] != attempt->parent &&
			(n == 0 || attempt->groups[n] != attempt->groups[n - 1]))
			UnlockReleaseBuffer(attempt->groups[n]);
		attempt->firsts[n] = InvalidBuffer;
	}
	for (int n = 0; n < wanted->nold; n++)
		attempt->groups[n] = InvalidBuffer;
	if (BufferIsValid(attempt->parent))
		UnlockReleaseBuffer(attempt->parent);
	attempt->parent = InvalidBuffer;
}

/*
 * Lock, exclusively, the parent's first head page, the head pages that have the
 * old nodes' rows, and the old nodes' first head pages.  Returns false, with
 * nothing locked, if the parent does not have those rows any more.
 */
static bool
lock(Attempt *attempt)
{
	WinnowReplacement *wanted = attempt->wanted;

	if (!wanted->is_root)
	{
		attempt->parent = winnow_read_head(wanted->index, wanted->rel, wanted->steps[0].node, -1,
										   BUFFER_LOCK_EXCLUSIVE);
		for (int n = 0; n < wanted->nold; n++)
		{
			const WinnowStep *step = &wanted->steps[n];

			if (step->group == step->node)
				attempt->groups[n] = attempt->parent;
			else if (n > 0 && step->group == wanted->steps[n - 1].group)
				attempt->groups[n] = attempt->groups[n - 1];
			else
				attempt->groups[n] = winnow_read_head(wanted->index, wanted->rel, step->group, -1,
													  BUFFER_LOCK_EXCLUSIVE);
			if (!winnow_step_holds(wanted->index, step, attempt->parent, attempt->groups[n]))
			{
				unlock(attempt);
				return false;
			}
		}
	}
	for (int n = 0; n < wanted->nold; n++)
		attempt->firsts[n] = winnow_read_head(wanted->index, wanted->rel, wanted->old[n], -1,
											  BUFFER_LOCK_EXCLUSIVE);
	return true;
}

static bool
copies_are_current(Attempt *attempt)
{
	for (int n = 0; attempt->wanted->write == NULL && n < attempt->wanted->nold; n++)
		if (!copy_is_current(attempt->wanted, attempt->firsts[n], &attempt->copies[n]))
			return false;
	return true;
}

/* A root over the new nodes */
static BlockNumber
write_root(Attempt *attempt)
{
	WinnowReplacement *wanted = attempt->wanted;
	const WinnowIndex *index = wanted->index;
	WinnowNode *root = winnow_node_alloc(index);
	WinnowRows	rows;

	if (attempt->level + 1 >= WINNOW_MAX_LEVELS)
		winnow_corrupted(wanted->rel, wanted->old[0], "The tree is too deep.");
	winnow_rows_allocate(index, attempt->level + 1, &rows, attempt->nnew);
	for (int p = 0; p < attempt->nnew; p++)
	{
		winnow_rows_add(index, attempt->level + 1, &rows, attempt->nodes[p]->block,
						attempt->nodes[p]->image);
		memcpy(rows.vectors + (Size) p * index->dims, attempt->nodes[p]->centroid,
			   sizeof(float) * index->dims);
	}
	rows.nknown = attempt->nnew;
	winnow_node_write(wanted->rel, MAIN_FORKNUM, index, attempt->level + 1, &rows, true, root);

	return root->block;
}

/* The root's place is taken by the new node, or a root over the new nodes */
static void
switch_root(Attempt *attempt)
{
	WinnowReplacement *wanted = attempt->wanted;
	BlockNumber root = attempt->nnew == 1 ? attempt->nodes[0]->block : write_root(attempt);
	GenericXLogState *xlog;
	Buffer		meta;

	/*
	 * The meta page comes first in the lock order, but nobody who holds it
	 * waits for another page.
	 */
	meta = winnow_read_page(wanted->rel, WINNOW_META_BLOCK, WINNOW_PAGE_META,
							BUFFER_LOCK_EXCLUSIVE);
	xlog = GenericXLogStart(wanted->rel);
	WinnowPageGetMeta(GenericXLogRegisterBuffer(xlog, meta, 0))->root = root;
	GenericXLogFinish(xlog);
	UnlockReleaseBuffer(meta);
}

/* The code that the parent has of a node */
static uint8 *
child_code(Attempt *attempt, const WinnowNode *node)
{
	const WinnowIndex *index = attempt->wanted->index;
	WinnowGroup *header = WinnowPageGetGroup(BufferGetPage(attempt->parent));
	float	   *centroid = palloc(sizeof(float) * index->dims);
	uint8	   *code = palloc(index->code_bytes);

	winnow_centroid_read(attempt->wanted->rel, index, header->data, header->ndata,
						 InvalidXLogRecPtr, centroid);
	winnow_encode(node->centroid, centroid, index->dims, code);
	return code;
}

/* The data page with the code of an old node's row in the parent, and the place there */
static Buffer
code_page(Attempt *attempt, int n, Buffer locked, int *offset)
{
	WinnowReplacement *wanted = attempt->wanted;
	const WinnowStep *step = &wanted->steps[n];
	WinnowGroup *header = WinnowPageGetGroup(BufferGetPage(attempt->groups[n]));
	int			page;

	winnow_code_place(&wanted->index->inner, header->number, step->slot, &page, offset);
	if (page >= header->ndata)
		winnow_corrupted(wanted->rel, step->group, "A row has no code.");
	if (BufferIsValid(locked) && header->data[page] == BufferGetBlockNumber(locked))
		return locked;
	return winnow_read_page(wanted->rel, header->data[page], WINNOW_PAGE_DATA,
							BUFFER_LOCK_EXCLUSIVE);
}

/* Make the imprint of an old node hold for what replaces it too */
static void
widen_imprint(Attempt *attempt, int n)
{
	WinnowReplacement *wanted = attempt->wanted;
	const WinnowLayout *layout = &wanted->index->inner;
	uint8		image[WINNOW_MAX_CHILD_IMAGE];

	winnow_imprint_read(wanted->rel, wanted->index, BufferGetPage(attempt->groups[n]),
						wanted->steps[n].group, wanted->steps[n].slot, image);
	winnow_imprint_add(&wanted->index->schema, image + layout->imprint_offset,
					   attempt->nodes[n]->image + layout->imprint_offset);
	winnow_imprint_replace(wanted->rel, wanted->index, attempt->groups[n], wanted->steps[n].slot,
						   image);
}

/*
 * In the parent, the rows of the old nodes become those of the new ones, in one
 * record: the row of the first old node that of the first new one, what new
 * nodes there are beyond the old ones get rows of their own, and what old ones
 * there are beyond the new ones lose theirs.
 */
static void
switch_children(Attempt *attempt)
{
	WinnowReplacement *wanted = attempt->wanted;
	const WinnowIndex *index = wanted->index;
	bool		grows = attempt->nnew > wanted->nold;
	uint8	   *codes[WINNOW_MAX_REPLACED] = {NULL};
	Buffer		data = InvalidBuffer;
	WinnowRoom	room;
	GenericXLogState *xlog;
	Page		first;
	int			offset = 0;

	Assert(attempt->nnew <= 1 || wanted->nold == 1);
	for (int p = 0; p < attempt->nnew; p++)
		codes[p] = child_code(attempt, attempt->nodes[p]);
	if (grows)
		winnow_room_find(wanted->rel, index, attempt->parent, attempt->groups[0], &room);
	if (attempt->nnew > 0)
		data = code_page(attempt, 0, grows ? room.data : InvalidBuffer, &offset);

	/*
	 * Imprints have pages of their own.  Before the new nodes are there, those that take a row over hold for both.
	 */
	for (int n = 0; n < Min(wanted->nold, attempt->nnew); n++)
		widen_imprint(attempt, n);

	/* five pages are one too many: the new row's code and imprint are written first */
	if (grows)
	{
		if (index->inner.record_bytes > 0)
			winnow_record_add(wanted->rel, &room,
							  attempt->nodes[1]->image + index->inner.imprint_offset);
		xlog = GenericXLogStart(wanted->rel);
		winnow_room_fill_code(wanted->rel, index, xlog, &room, codes[1]);
		GenericXLogFinish(xlog);
	}

	/*
	 * The first head page comes first, changed or not: replay then waits for
	 * the readers that hold it, as this backend did.
	 */
	xlog = GenericXLogStart(wanted->rel);
	first = GenericXLogRegisterBuffer(xlog, attempt->parent, 0);
	for (int n = 0; n < wanted->nold; n++)
	{
		Page		page = GenericXLogRegisterBuffer(xlog, attempt->groups[n], 0);

		if (n < attempt->nnew)
		{
			winnow_row_store(&index->inner, page, wanted->steps[n].slot, attempt->nodes[n]->block,
							 attempt->nodes[n]->image);
			winnow_code_store(index, GenericXLogRegisterBuffer(xlog, data, 0), offset, codes[n]);
		}
		else
			winnow_bit_set(winnow_removed_bits(&index->inner, first, page), wanted->steps[n].slot);
	}
	if (grows)
		winnow_room_fill_row(xlog, &room, attempt->nodes[1]->block, attempt->nodes[1]->image);
	GenericXLogFinish(xlog);

	if (grows)
	{
		wanted->nchildren = room.nlive + 1;
		if (data == room.data)
			data = InvalidBuffer;
		winnow_room_release(&room);
	}
	if (BufferIsValid(data))
		UnlockReleaseBuffer(data);
}

/* The image of a row among those of the new nodes */
static uint8 *
new_image(Attempt *attempt, uint64 id)
{
	for (int p = 0; p < attempt->nnew; p++)
		for (int i = 0; i < attempt->parts[p].count; i++)
			if (attempt->parts[p].ids[i] == id)
				return attempt->parts[p].images +
					(Size) i * attempt->wanted->index->inner.image_bytes;
	winnow_corrupted(attempt->wanted->rel, (BlockNumber) id, "It is not among the children that it was.");
}

/*
 * Insertions change imprints without a trace on head pages: read them again, now that the old
 * nodes are locked.  A slot that has lost its row may name a block that is another child's now.
 */
static void
refresh_imprints(Attempt *attempt)
{
	const WinnowReplacement *wanted = attempt->wanted;
	const WinnowLayout *layout = &wanted->index->inner;

	for (int n = 0; n < wanted->nold; n++)
		for (int g = 0; g < attempt->copies[n].ngroups; g++)
		{
			Page		first = attempt->copies[n].pages[0].data;
			Page		page = attempt->copies[n].pages[g].data;

			for (int slot = 0; slot < WinnowPageGetGroup(page)->nrows; slot++)
				if (winnow_is_live(layout, first, page, slot))
					winnow_imprint_read(wanted->rel, wanted->index, page,
										attempt->copies[n].blocks[g], slot,
										new_image(attempt, winnow_row_id(layout, page, slot)));
		}
}

/*
 * Write the new nodes.  Returns false if it turns out that there cannot be any;
 * else *npages is the number of pages that will not be needed any more.
 */
static bool
write_new(Attempt *attempt, uint32 *npages)
{
	WinnowReplacement *wanted = attempt->wanted;

	*npages = 0;
	if (wanted->write != NULL)
	{
		attempt->nodes[0] = wanted->write(wanted->write_arg, attempt->firsts[0], npages);
		attempt->nnew = 1;
		if (attempt->nodes[0] == NULL)
			return false;
		wanted->new[0] = attempt->nodes[0]->block;
		return true;
	}
	for (int n = 0; n < wanted->nold; n++)
		*npages += winnow_heads_pages(wanted->index, &attempt->copies[n]);
	if (attempt->level > 0)
		refresh_imprints(attempt);
	for (int p = 0; p < attempt->nnew; p++)
	{
		attempt->nodes[p] = winnow_node_alloc(wanted->index);
		winnow_node_write(wanted->rel, MAIN_FORKNUM, wanted->index, attempt->level,
						  &attempt->parts[p], true, attempt->nodes[p]);
		wanted->new[p] = attempt->nodes[p]->block;
	}
	return true;
}

/*
 * Put the new nodes in the place of the old ones, which are locked and retired,
 * and unlock them.  Returns false, with nothing changed, if there cannot be new
 * nodes.
 */
static bool
carry_out(Attempt *attempt)
{
	WinnowReplacement *wanted = attempt->wanted;
	WinnowGroup *retired[WINNOW_MAX_REPLACED];
	FullTransactionId now;
	uint32		npages;

	/* made before the switch: an error after it must not keep this away */
	GenericXLogState *retire = GenericXLogStart(wanted->rel);

	for (int n = 0; n < wanted->nold; n++)
	{
		retired[n] = WinnowPageGetGroup(GenericXLogRegisterBuffer(retire, attempt->firsts[n], 0));
		retired[n]->flags |= WINNOW_RETIRED;
	}
	if (!write_new(attempt, &npages))
	{
		GenericXLogAbort(retire);
		unlock(attempt);
		return false;
	}
	WINNOW_WAIT_POINT("replace-written");
	if (wanted->is_root)
		switch_root(attempt);
	else
		switch_children(attempt);
	WINNOW_WAIT_POINT("replace-switched");

	/* whoever has a snapshot newer than this has not seen a pointer to them */
	now = ReadNextFullTransactionId();
	for (int n = 0; n < wanted->nold; n++)
		retired[n]->retired_at = U64FromFullTransactionId(now);
	GenericXLogFinish(retire);
	for (int n = 0; !wanted->is_root && n < Min(wanted->nold, attempt->nnew); n++)
		winnow_imprint_replace(wanted->rel, wanted->index, attempt->groups[n],
							   wanted->steps[n].slot, attempt->nodes[n]->image);
	unlock(attempt);
	WINNOW_WAIT_POINT("replace-retired");
	winnow_count_retired(wanted->rel, npages);
	return true;
}

/* Can what prepare() found be carried out? */
static bool
is_prepared(const Attempt *attempt)
{
	if (attempt->wanted->write != NULL)
		return true;
	if (attempt->wanted->part != NULL)
		return attempt->nnew > 0;
	return attempt->rows.count == 0;
}

/* Will the rows' vectors be read with the nodes locked, by an index expression? */
static bool
computes_when_locked(const Attempt *attempt)
{
	const WinnowReplacement *wanted = attempt->wanted;

	return wanted->part != NULL && attempt->level == 0 &&
		winnow_vector_computed(wanted->rel, wanted->index);
}

/*
 * Replace.  The structure lock is held, so that nobody else does so; no buffer
 * is locked.  Returns false if there was nothing to do: the parent does not have
 * the old nodes any more, or their rows cannot be shared out as wanted (the part
 * function returned 0, the write function NULL; without either, there are rows).
 * Several tries may be needed because rows arrive meanwhile; the last keeps them
 * out (there is none if it would run a user's function then).
 */
bool
winnow_replace(WinnowReplacement *wanted)
{
	List	   *out_of_line = winnow_lock_out_of_line(wanted->heap);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "winnow replacement",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Attempt		attempt = {0};
	bool		locked;
	bool		done = false;

	attempt.wanted = wanted;
	for (int tries = 0;; tries++)
	{
		bool		hold = tries >= OPTIMISTIC_TRIES;

		MemoryContextReset(context);
		if (!hold)
			prepare(&attempt);
		WINNOW_WAIT_POINT("replace-copied");
		locked = !(hold && computes_when_locked(&attempt)) && lock(&attempt);
		if (locked && hold)
			prepare(&attempt);
		if (!locked || hold || copies_are_current(&attempt))
			break;
		unlock(&attempt);
	}
	if (locked && is_prepared(&attempt))
		done = carry_out(&attempt);
	else if (locked)
		unlock(&attempt);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	winnow_unlock_out_of_line(out_of_line);
	return done;
}
