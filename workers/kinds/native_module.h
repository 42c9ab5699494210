/* Shared objects, loaded so that a rebuilt one is another one.
 *
 * The loader knows an object by its name and its file, and gives back the old
 * code for either. So what stands in the file is copied into memory and loaded
 * under a name of its own: a file that is written over does not change what
 * runs. An object that finds its libraries by where it lies ($ORIGIN) cannot be
 * loaded from there, and is loaded from its file.
 *
 * Nothing is ever unloaded: a body may run in it, and a thread of its own.
 *
 * Threads: any; one load at a time. Blocks. */
#pragma once

/* The handle for dlsym() of what the file holds now; the same one as before
 * while that is the same. NULL with what the loader says in *fault, which is
 * good until the thread loads again. */
void *native_module_load(const char *path, const char **fault);
