/*
 * wait.h
 *		Places where a test can make a backend wait, to let others go on.
 *
 * Each is at a point of the concurrent algorithms (DESIGN.md, sections 4 to 8)
 * where something is about to be relied on.  They are there in builds for tests
 * (ASSERTIONS or ASAN) only.
 */
#ifndef WINNOW_WAIT_H
#define WINNOW_WAIT_H

#ifdef WINNOW_WAIT_POINTS
extern void winnow_wait_init(void);
extern void winnow_wait_at(const char *point);

#define WINNOW_WAIT_POINT(point) winnow_wait_at(point)
#else
#define winnow_wait_init() ((void) 0)
#define WINNOW_WAIT_POINT(point) ((void) 0)
#endif

#endif							/* WINNOW_WAIT_H */
