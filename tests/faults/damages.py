"""What may become of a file that nobody looks after."""

DAMAGES = {
    "truncated to half": lambda path: path.write_bytes(
        path.read_bytes()[: path.stat().st_size // 2]
    ),
    "emptied": lambda path: path.write_bytes(b""),
    "deleted": lambda path: path.unlink(),
}


def flip(path, generator):
    content = bytearray(path.read_bytes())
    bit = generator.randrange(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def files_of(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file())
