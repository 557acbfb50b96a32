/*
 * spool.h
 *		Rows on their way into the index, in temporary files that the processes
 *		of a build share.
 */
#ifndef WINNOW_SPOOL_H
#define WINNOW_SPOOL_H

#include "winnow.h"

#include "storage/buffile.h"
#include "storage/fileset.h"

/* Processes of a build, the leader included */
#define WINNOW_MAX_PARTICIPANTS 8

/*
 * The files of a build.  A file is named by what it holds, a number and who
 * wrote it; whoever reads it asks for what and number, and gets all writers'.
 */
typedef struct WinnowFiles
{
	FileSet    *set;
	int			writer;			/* this process */
	int			nwriters;
} WinnowFiles;

extern BufFile *winnow_file_create(const WinnowFiles *files, const char *what, int number);
extern int	winnow_file_open(const WinnowFiles *files, const char *what, int number,
							 BufFile **opened);
extern BufFile *winnow_file_open_only(const WinnowFiles *files, const char *what, int number);
extern void winnow_file_write(BufFile *file, const void *from, Size bytes);
extern void winnow_file_read(BufFile *file, void *to, Size bytes);
extern void winnow_file_delete(const WinnowFiles *files, const char *what, int number);

/* A row; image and vector have the sizes of its spool */
typedef struct WinnowSpoolRow
{
	uint64		key;			/* the row's place, whoever writes it: unique in a level */
	uint64		id;				/* packed TID, or block of a child */
	int64		list;
	uint8	   *image;
	float	   *vector;			/* index space */
} WinnowSpoolRow;

typedef struct WinnowSpool WinnowSpool;

/* Rows of a spool in memory, in the order of their lists and keys */
typedef struct WinnowBatch
{
	WinnowRows	rows;
	uint64	   *keys;
	int64	   *lists;
} WinnowBatch;

extern WinnowSpoolRow *winnow_spool_row_alloc(int image_bytes, int dims);
extern void winnow_spool_row_free(WinnowSpoolRow *row);
extern WinnowSpool *winnow_spool_create(const WinnowFiles *files, const char *what, int number,
										int image_bytes, int dims);
extern WinnowSpool *winnow_spool_open(const WinnowFiles *files, const char *what, int number,
									  int image_bytes, int dims);
extern WinnowSpool *winnow_spool_open_row(const WinnowFiles *files, const char *what, int first,
										  int count, int image_bytes, int dims);
extern void winnow_spool_add(WinnowSpool *spool, const WinnowSpoolRow *row);
extern bool winnow_spool_next(WinnowSpool *spool, WinnowSpoolRow *row);
extern int64 winnow_spool_count(const WinnowSpool *spool);
extern void winnow_spool_rewind(WinnowSpool *spool);
extern void winnow_spool_close(WinnowSpool *spool);
extern Size winnow_spool_row_bytes(int image_bytes, int dims);
extern WinnowBatch *winnow_spool_load(WinnowSpool *spool, int64 most, int salt);
extern void winnow_batch_free(WinnowBatch *batch);
extern void winnow_rows_arrange(WinnowRows *rows, int image_bytes, int dims, int32 *from);

/* How often the rows are drawn that pass a filter of the calibration */
#define WINNOW_FILTER_DRAWS 16

/* What a row's draws are for: each has its own */
typedef enum WinnowSalt
{
	WINNOW_SALT_SAMPLE,
	WINNOW_SALT_GROUPS,
	WINNOW_SALT_LISTS,
	WINNOW_SALT_BLOCK,
	WINNOW_SALT_LARGE,			/* rows of a large list */
	WINNOW_SALT_SEED,
	WINNOW_SALT_FILTER,			/* the first of WINNOW_FILTER_DRAWS */
	WINNOW_SALT_LOOKED_AT = WINNOW_SALT_FILTER + WINNOW_FILTER_DRAWS,
	WINNOW_SALT_SAMPLED,
	WINNOW_SALT_PIECE			/* the last: the pieces of a large list's pieces have those that follow */
} WinnowSalt;

extern double winnow_key_draw(uint64 key, int salt);

#endif							/* WINNOW_SPOOL_H */
