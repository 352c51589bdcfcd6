from lesion_exp.byte_size import file_size, memory_size


def test_files_are_measured_in_powers_of_1000_and_memory_in_powers_of_1024():
    sizes = (0, 999, 1000, 12_345_678, 5 * 10**12)
    assert [*map(file_size, sizes)] == ["0 B", "999 B", "1.0 kB", "12.3 MB", "5.0 TB"]
    assert [*map(memory_size, (64 * 2**20, 3 * 2**29, 200 * 2**30))] == ["64 MiB", "1.5 GiB", "200 GiB"]
