/*
 * view.h - the end of a memoryview that was given out: of it and of all that was made of it.
 *
 * All of it is called with the GIL.
 */
#ifndef AIOFS_VIEW_H
#define AIOFS_VIEW_H

#include <Python.h>

/* Releases a memoryview. Its slices and casts, which its own release leaves alive, are invalid afterwards: they raise
 * ValueError. 0; -1: BufferError, an object that is no memoryview uses its memory. */
int view_end(PyObject *view);

#endif
