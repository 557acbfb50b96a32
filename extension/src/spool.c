/*
 * spool.c
 *		Rows on their way into the index, in temporary files that the processes
 *		of a build share.
 *
 * Files belong to a FileSet, so any participant can read what another has
 * written and closed.  The order of the rows in a spool depends on who wrote
 * what; what is made of them must not, hence the keys.
 */
#include "postgres.h"

#include "spool.h"

#include <fcntl.h>

#include "core/random.h"
#include "miscadmin.h"
#include "utils/memutils.h"

/* Salts of draws are far apart */
#define SALT UINT64CONST(0xD1B54A32D192ED03)

/* There is room for so many rows at least; if that many are to be drawn, there are some (none: one time in e^64) */
#define LEAST_ROWS 64

struct WinnowSpool
{
	int			image_bytes;
	int			dims;
	int64		count;
	int			nfiles;
	int			current;		/* file that is read */
	BufFile   **files;
};

static void
file_name(char *name, const char *what, int number, int writer)
{
	snprintf(name, MAXPGPATH, "%s-%d-%d", what, number, writer);
}

BufFile *
winnow_file_create(const WinnowFiles *files, const char *what, int number)
{
	char		name[MAXPGPATH];

	file_name(name, what, number, files->writer);
	return BufFileCreateFileSet(files->set, name);
}

/* Open what all participants have written under a name; returns how many did */
int
winnow_file_open(const WinnowFiles *files, const char *what, int number, BufFile **opened)
{
	int			n = 0;

	for (int writer = 0; writer < files->nwriters; writer++)
	{
		char		name[MAXPGPATH];
		BufFile    *file;

		file_name(name, what, number, writer);
		file = BufFileOpenFileSet(files->set, name, O_RDONLY, true);
		if (file != NULL)
			opened[n++] = file;
	}
	return n;
}

/* Open a file that one participant has written */
BufFile *
winnow_file_open_only(const WinnowFiles *files, const char *what, int number)
{
	BufFile    *opened[WINNOW_MAX_PARTICIPANTS];
	int			n = winnow_file_open(files, what, number, opened);

	if (n != 1)
		elog(ERROR, "%d temporary files \"%s\" of the index build, number %d", n, what, number);
	return opened[0];
}

void
winnow_file_write(BufFile *file, const void *from, Size bytes)
{
	/* the parameter is not const before PostgreSQL 16 */
	BufFileWrite(file, (void *) from, bytes);
}

void
winnow_file_read(BufFile *file, void *to, Size bytes)
{
	if (BufFileRead(file, to, bytes) != bytes)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read a temporary file of the index build")));
}

void
winnow_file_delete(const WinnowFiles *files, const char *what, int number)
{
	for (int writer = 0; writer < files->nwriters; writer++)
	{
		char		name[MAXPGPATH];

		file_name(name, what, number, writer);
		BufFileDeleteFileSet(files->set, name, true);
	}
}

/*
 * A number in [0, 1) that depends on a row's key alone, so that rows are
 * drawn the same way whoever meets them.
 */
double
winnow_key_draw(uint64 key, int salt)
{
	uint64_t	state = key + SALT * (salt + 1);

	return winnow_random_unit(&state);
}

WinnowSpoolRow *
winnow_spool_row_alloc(int image_bytes, int dims)
{
	WinnowSpoolRow *row = palloc0(sizeof(WinnowSpoolRow));

	row->image = palloc0(Max(image_bytes, 1));
	row->vector = palloc0(sizeof(float) * dims);
	return row;
}

void
winnow_spool_row_free(WinnowSpoolRow *row)
{
	pfree(row->image);
	pfree(row->vector);
	pfree(row);
}

static WinnowSpool *
spool_alloc(int image_bytes, int dims, int most)
{
	WinnowSpool *spool = palloc0(sizeof(WinnowSpool));

	spool->files = palloc(sizeof(BufFile *) * most);
	spool->image_bytes = image_bytes;
	spool->dims = dims;
	return spool;
}

/* A new spool, for this participant's rows */
WinnowSpool *
winnow_spool_create(const WinnowFiles *files, const char *what, int number, int image_bytes,
					int dims)
{
	WinnowSpool *spool = spool_alloc(image_bytes, dims, 1);

	spool->files[spool->nfiles++] = winnow_file_create(files, what, number);
	return spool;
}

/* Rows that participants have written: read from the beginning */
WinnowSpool *
winnow_spool_open(const WinnowFiles *files, const char *what, int number, int image_bytes,
				  int dims)
{
	return winnow_spool_open_row(files, what, number, 1, image_bytes, dims);
}

/* The same for count numbers one after the other */
WinnowSpool *
winnow_spool_open_row(const WinnowFiles *files, const char *what, int first, int count,
					  int image_bytes, int dims)
{
	WinnowSpool *spool = spool_alloc(image_bytes, dims, count * files->nwriters);

	for (int number = first; number < first + count; number++)
		spool->nfiles += winnow_file_open(files, what, number, spool->files + spool->nfiles);
	for (int f = 0; f < spool->nfiles; f++)
		spool->count += BufFileSize(spool->files[f]) / winnow_spool_row_bytes(image_bytes, dims);
	return spool;
}

/* Bytes that a row takes in a file, and about as many in memory */
Size
winnow_spool_row_bytes(int image_bytes, int dims)
{
	return offsetof(WinnowSpoolRow, image) + image_bytes + sizeof(float) * dims;
}

void
winnow_spool_add(WinnowSpool *spool, const WinnowSpoolRow *row)
{
	BufFile    *file = spool->files[0];

	winnow_file_write(file, row, offsetof(WinnowSpoolRow, image));
	winnow_file_write(file, row->image, spool->image_bytes);
	winnow_file_write(file, row->vector, sizeof(float) * spool->dims);
	spool->count++;
}

bool
winnow_spool_next(WinnowSpool *spool, WinnowSpoolRow *row)
{
	Size		bytes = offsetof(WinnowSpoolRow, image);
	Size		got = 0;

	while (spool->current < spool->nfiles)
	{
		got = BufFileRead(spool->files[spool->current], row, bytes);
		if (got != 0)
			break;
		spool->current++;
	}
	if (spool->current == spool->nfiles)
		return false;
	if (got != bytes)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read a temporary file of the index build")));
	winnow_file_read(spool->files[spool->current], row->image, spool->image_bytes);
	winnow_file_read(spool->files[spool->current], row->vector, sizeof(float) * spool->dims);
	return true;
}

int64
winnow_spool_count(const WinnowSpool *spool)
{
	return spool->count;
}

void
winnow_spool_rewind(WinnowSpool *spool)
{
	for (int f = 0; f < spool->nfiles; f++)
		if (BufFileSeek(spool->files[f], 0, 0, SEEK_SET) != 0)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not rewind a temporary file of the index build")));
	spool->current = 0;
}

void
winnow_spool_close(WinnowSpool *spool)
{
	for (int f = 0; f < spool->nfiles; f++)
		BufFileClose(spool->files[f]);
	pfree(spool->files);
	pfree(spool);
}

/*
 * Bring rows into another order, in place: row from[i] comes to i.  from[] is
 * used up.
 */
void
winnow_rows_arrange(WinnowRows *rows, int image_bytes, int dims, int32 *from)
{
	uint8	   *image = palloc(Max(image_bytes, 1));
	float	   *vector = palloc(sizeof(float) * dims);

	for (int i = 0; i < rows->count; i++)
	{
		uint64		id = rows->ids[i];
		int			to = i;

		if (from[i] == i)
			continue;
		/* follow the cycle that begins here */
		memcpy(image, rows->images + (Size) i * image_bytes, image_bytes);
		memcpy(vector, rows->vectors + (Size) i * dims, sizeof(float) * dims);
		while (from[to] != i)
		{
			int			next = from[to];

			rows->ids[to] = rows->ids[next];
			memcpy(rows->images + (Size) to * image_bytes,
				   rows->images + (Size) next * image_bytes, image_bytes);
			memcpy(rows->vectors + (Size) to * dims, rows->vectors + (Size) next * dims,
				   sizeof(float) * dims);
			from[to] = to;
			to = next;
		}
		rows->ids[to] = id;
		memcpy(rows->images + (Size) to * image_bytes, image, image_bytes);
		memcpy(rows->vectors + (Size) to * dims, vector, sizeof(float) * dims);
		from[to] = to;
	}
	pfree(image);
	pfree(vector);
}

typedef struct Place
{
	int64		list;
	uint64		key;
	int32		row;
} Place;

static int
compare_places(const void *a, const void *b)
{
	const Place *x = a;
	const Place *y = b;

	if (x->list != y->list)
		return x->list < y->list ? -1 : 1;
	return x->key < y->key ? -1 : x->key > y->key;
}

static void
sort_batch(WinnowBatch *batch, int image_bytes, int dims)
{
	int			count = batch->rows.count;
	Place	   *places = palloc_extended(sizeof(Place) * Max(count, 1), MCXT_ALLOC_HUGE);
	int32	   *from = palloc_extended(sizeof(int32) * Max(count, 1), MCXT_ALLOC_HUGE);

	for (int i = 0; i < count; i++)
	{
		places[i].list = batch->lists[i];
		places[i].key = batch->keys[i];
		places[i].row = i;
	}
	qsort(places, count, sizeof(Place), compare_places);
	for (int i = 0; i < count; i++)
	{
		batch->lists[i] = places[i].list;
		batch->keys[i] = places[i].key;
		from[i] = places[i].row;
	}
	winnow_rows_arrange(&batch->rows, image_bytes, dims, from);
	pfree(places);
	pfree(from);
}

/* Make room in a batch */
static void
grow_batch(WinnowBatch *batch, int capacity, int image_bytes, int dims)
{
	WinnowRows *rows = &batch->rows;
	Size		images = (Size) Max(image_bytes, 1) * capacity;
	Size		vectors = sizeof(float) * dims * capacity;

	if (rows->ids == NULL)
	{
		rows->ids = palloc_extended(sizeof(uint64) * capacity, MCXT_ALLOC_HUGE);
		rows->images = palloc_extended(images, MCXT_ALLOC_HUGE);
		rows->vectors = palloc_extended(vectors, MCXT_ALLOC_HUGE);
		batch->keys = palloc_extended(sizeof(uint64) * capacity, MCXT_ALLOC_HUGE);
		batch->lists = palloc_extended(sizeof(int64) * capacity, MCXT_ALLOC_HUGE);
	}
	else
	{
		rows->ids = repalloc_huge(rows->ids, sizeof(uint64) * capacity);
		rows->images = repalloc_huge(rows->images, images);
		rows->vectors = repalloc_huge(rows->vectors, vectors);
		batch->keys = repalloc_huge(batch->keys, sizeof(uint64) * capacity);
		batch->lists = repalloc_huge(batch->lists, sizeof(int64) * capacity);
	}
}

/*
 * Rows of a spool, from the beginning, in memory: all of them, or about "most" (LEAST_ROWS at least)
 * drawn by their keys.  Sorted by list and key.
 */
WinnowBatch *
winnow_spool_load(WinnowSpool *spool, int64 most, int salt)
{
	WinnowBatch *batch = palloc0(sizeof(WinnowBatch));
	WinnowRows *rows = &batch->rows;
	WinnowSpoolRow *row = winnow_spool_row_alloc(spool->image_bytes, spool->dims);
	double		rate;
	int			capacity;

	most = Max(most, LEAST_ROWS);
	rate = spool->count <= most ? 1 : (double) most / spool->count;
	capacity = (int) Min(Max(Min(spool->count, most + most / 16), LEAST_ROWS), PG_INT32_MAX / 4);
	grow_batch(batch, capacity, spool->image_bytes, spool->dims);
	winnow_spool_rewind(spool);
	for (int64 n = 0; winnow_spool_next(spool, row); n++)
	{
		int			i = rows->count;

		if (n % 1024 == 0)
			CHECK_FOR_INTERRUPTS();
		if (rate < 1 && winnow_key_draw(row->key, salt) >= rate)
			continue;
		if (i == capacity)
		{
			capacity += capacity / 4;
			grow_batch(batch, capacity, spool->image_bytes, spool->dims);
		}
		batch->keys[i] = row->key;
		batch->lists[i] = row->list;
		rows->ids[i] = row->id;
		memcpy(rows->images + (Size) i * spool->image_bytes, row->image, spool->image_bytes);
		memcpy(rows->vectors + (Size) i * spool->dims, row->vector,
			   sizeof(float) * spool->dims);
		rows->count++;
	}
	rows->nknown = rows->count;
	winnow_spool_row_free(row);
	sort_batch(batch, spool->image_bytes, spool->dims);
	return batch;
}

void
winnow_batch_free(WinnowBatch *batch)
{
	pfree(batch->rows.ids);
	pfree(batch->rows.images);
	pfree(batch->rows.vectors);
	pfree(batch->keys);
	pfree(batch->lists);
	pfree(batch);
}
