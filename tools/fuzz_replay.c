/* Runs a fuzz target over files, without libFuzzer: `make test` replays the
 * corpora with it. Folders given are read whole; no input at all is a failure. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

static int replay(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        return 0;
    }
    size_t size = 0, cap = 1 << 16;
    uint8_t *data = malloc(cap);
    while (data && (size += fread(data + size, 1, cap - size, file)) == cap)
        data = realloc(data, cap *= 2);
    fclose(file);
    /* Exactly as large as the input, so that a sanitizer sees a step beyond it. */
    uint8_t *exact = malloc(size ? size : 1);
    if (!data || !exact)
        abort();
    memcpy(exact, data, size);
    free(data);
    fprintf(stderr, "%s (%zu bytes)\n", path, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    return 1;
}

static int replay_all(const char *path)
{
    DIR *folder = opendir(path);
    if (!folder)
        return replay(path);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        char name[4096];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        count += replay(name);
    }
    closedir(folder);
    return count;
}

int main(int argc, char **argv)
{
    int count = 0;
    if (LLVMFuzzerInitialize)
        LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++)
        count += replay_all(argv[i]);
    fprintf(stderr, "%d inputs\n", count);
    return count > 0 ? 0 : 1;
}
