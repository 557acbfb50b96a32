/*
 * room.c
 *		Changing a node: the row of a child, and room for one more row.
 *
 * Both the insertion of a row into a leaf and that of a child into its parent
 * go through here.
 */
#include "postgres.h"

#include "winnow.h"

#include "port/pg_bitutils.h"

/*
 * Do the two pages, both locked, still have the row that the step says?  "first"
 * is the node's first head page, "group" the one with the row.
 */
bool
winnow_step_holds(const WinnowIndex *index, const WinnowStep *step, Buffer first, Buffer group)
{
	Page		page = BufferGetPage(group);

	return (WinnowPageGetGroup(BufferGetPage(first))->flags & WINNOW_RETIRED) == 0 &&
		winnow_is_live(&index->inner, BufferGetPage(first), page, step->slot) &&
		winnow_row_id(&index->inner, page, step->slot) == step->child;
}

/*
 * Lock the head page that has a child's row in the given mode, and its node's
 * first head page, share if it is another one, if the step is still current.
 * Returns false, with nothing locked, if not.  *group may be the same buffer as
 * *first.
 */
bool
winnow_step_lock(Relation rel, const WinnowIndex *index, const WinnowStep *step,
				 int mode, Buffer *first, Buffer *group)
{
	bool		same = step->group == step->node;

	*first = winnow_read_head(index, rel, step->node, -1, same ? mode : BUFFER_LOCK_SHARE);
	*group = same ? *first : winnow_read_head(index, rel, step->group, -1, mode);
	if (winnow_step_holds(index, step, *first, *group))
		return true;
	winnow_step_unlock(*first, *group);
	return false;
}

void
winnow_step_unlock(Buffer first, Buffer group)
{
	if (group != first)
		UnlockReleaseBuffer(group);
	UnlockReleaseBuffer(first);
}

/* First slot of a head page that no live row has, or -1 */
static int
free_slot(const WinnowLayout *layout, Page first, Page page)
{
	WinnowGroup *group = WinnowPageGetGroup(page);
	const uint64 *removed = winnow_removed_bits(layout, first, page);

	for (int slot = 0; slot < group->nrows; slot += 64)
		if (removed[slot / 64] != 0)
		{
			slot += pg_rightmost_one_pos64(removed[slot / 64]);
			if (slot < group->nrows)
				return slot;
			break;
		}
	return group->nrows < layout->capacity ? group->nrows : -1;
}

/*
 * Chain an empty group behind the last one, which is locked and full.  Its rows'
 * codes go on where those of the last one end.
 */
static Buffer
add_group(Relation rel, const WinnowLayout *layout, Buffer last)
{
	WinnowGroup *before = WinnowPageGetGroup(BufferGetPage(last));
	Buffer		buffer;
	GenericXLogState *xlog;
	WinnowGroup *group;
	Page		page;

	if (before->number == PG_UINT16_MAX ||
		before->ndata != winnow_data_pages(layout, before->number, layout->capacity))
		winnow_corrupted(rel, BufferGetBlockNumber(last), "A row has no code.");
	buffer = winnow_allocate(rel);
	xlog = GenericXLogStart(rel);
	before = WinnowPageGetGroup(GenericXLogRegisterBuffer(xlog, last, 0));
	before->next = BufferGetBlockNumber(buffer);
	page = GenericXLogRegisterBuffer(xlog, buffer, GENERIC_XLOG_FULL_IMAGE);
	winnow_head_init(page, winnow_birth(rel), before->level, before->number + 1, before->first);
	group = WinnowPageGetGroup(page);
	if (winnow_data_shared(layout, group->number))
		group->data[group->ndata++] = before->data[before->ndata - 1];
	winnow_finish_head(xlog);
	return buffer;
}

/*
 * Find room for one more row in a node whose first head page is exclusively
 * locked.  On return the head page with the free slot and the data page for
 * its code are exclusively locked too.  "held" is a head page of the node that
 * the caller has locked besides (or InvalidBuffer).
 */
void
winnow_room_find(Relation rel, const WinnowIndex *index, Buffer first, Buffer held,
				 WinnowRoom *room)
{
	Page		page = BufferGetPage(first);
	const WinnowLayout *layout = winnow_layout(index, WinnowPageGetGroup(page)->level);
	Buffer		buffer = first;
	WinnowGroup *group;
	WinnowChain chain;
	int			data_page;

	winnow_chain_start(&chain, BufferGetBlockNumber(first));
	memset(room, 0, sizeof(*room));
	room->first = first;
	room->held = held;
	room->group = InvalidBuffer;
	for (;;)
	{
		Buffer		next;

		page = BufferGetPage(buffer);
		group = WinnowPageGetGroup(page);
		winnow_chain_follow(rel, &chain, BufferGetBlockNumber(buffer), page);
		room->nlive += winnow_count_live(layout, BufferGetPage(first), page);
		if (room->group == InvalidBuffer)
		{
			room->slot = free_slot(layout, BufferGetPage(first), page);
			room->reused = room->slot < group->nrows;
			if (room->slot >= 0)
				room->group = buffer;
		}
		if (BlockNumberIsValid(group->next))
		{
			if (BufferIsValid(held) && BufferGetBlockNumber(held) == group->next)
				next = held;
			else
				next = winnow_read_head(index, rel, group->next, group->level,
										BUFFER_LOCK_EXCLUSIVE);
		}
		else if (room->group == InvalidBuffer)
			next = add_group(rel, layout, buffer);
		else
			next = InvalidBuffer;
		if (buffer != first && buffer != held && buffer != room->group)
			UnlockReleaseBuffer(buffer);
		if (next == InvalidBuffer)
			break;
		buffer = next;
	}

	page = BufferGetPage(room->group);
	group = WinnowPageGetGroup(page);
	winnow_code_place(layout, group->number, room->slot, &data_page, &room->offset);
	if (data_page > group->ndata || data_page >= layout->max_data)
		winnow_corrupted(rel, BufferGetBlockNumber(room->group), "A row has no code.");
	room->new_data = data_page == group->ndata;
	room->data = room->new_data ? winnow_allocate(rel) :
		winnow_read_page(rel, group->data[data_page], WINNOW_PAGE_DATA,
						 BUFFER_LOCK_EXCLUSIVE);
	room->layout = layout;
}

/* Write the code, within a WAL record: nothing refers to it yet */
void
winnow_room_fill_code(Relation rel, const WinnowIndex *index, GenericXLogState *xlog,
					  const WinnowRoom *room, const uint8 *code)
{
	Page		page = GenericXLogRegisterBuffer(xlog, room->data,
												 room->new_data ? GENERIC_XLOG_FULL_IMAGE : 0);

	if (room->new_data)
		winnow_page_init(page, WINNOW_PAGE_DATA, winnow_birth(rel));
	winnow_code_store(index, page, room->offset, code);
}

/* Write the row, in the same record or a later one */
void
winnow_room_fill_row(GenericXLogState *xlog, const WinnowRoom *room, uint64 id,
					 const uint8 *image)
{
	Page		first = room->reused ? GenericXLogRegisterBuffer(xlog, room->first, 0) : NULL;
	Page		page = GenericXLogRegisterBuffer(xlog, room->group, 0);
	WinnowGroup *group = WinnowPageGetGroup(page);

	if (room->reused)
		winnow_bit_clear(winnow_removed_bits(room->layout, first, page), room->slot);
	if (room->new_data)
		group->data[group->ndata++] = BufferGetBlockNumber(room->data);
	for (int i = 0; i < room->nrecord_pages; i++)
		winnow_record_blocks(room->layout, group)[group->nrecord_pages++] = room->records[i];
	winnow_row_store(room->layout, page, room->slot, id, image);
}

/* Unlock what winnow_room_find locked; not the first head page, nor "held" */
void
winnow_room_release(WinnowRoom *room)
{
	UnlockReleaseBuffer(room->data);
	if (room->group != room->first && room->group != room->held)
		UnlockReleaseBuffer(room->group);
}
