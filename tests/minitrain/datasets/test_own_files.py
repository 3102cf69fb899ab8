"""Folders of pictures and tables of one's own."""

import copy
import pickle

import numpy as np
import pytest

from minitrain import Trainer, datasets, losses, models, optimizers
from minitrain.datasets.pictures import in_channels, read_picture, resized

Image = pytest.importorskip("PIL.Image")
rng = np.random.default_rng(0)


def bytes_of(*shape):
    return rng.integers(0, 256, shape).astype("uint8")


# ---------------------------------------------------------------------------------------------------- pictures


def test_pixels_are_exact(tmp_path):
    for pixels in (bytes_of(5, 7), bytes_of(5, 7, 3)):
        Image.fromarray(pixels).save(tmp_path / "a.png")
        picture = read_picture(tmp_path / "a.png")
        expected = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        np.testing.assert_array_equal(picture, expected / np.float32(255))
        assert picture.dtype == np.float32


@pytest.mark.parametrize("background", ["white", "black"])
def test_transparent_pictures_lie_on_a_background(tmp_path, background):
    pixels = bytes_of(5, 7, 4)
    under = 1.0 if background == "white" else 0.0
    alpha = pixels[..., 3:] / 255
    expected = (alpha * pixels[..., :3] / 255 + (1 - alpha) * under).transpose(2, 0, 1)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_allclose(read_picture(tmp_path / "a.png", background), expected, atol=1e-6)
    grey = pixels[..., [0, 3]]
    Image.fromarray(grey, "LA").save(tmp_path / "b.png")
    got = read_picture(tmp_path / "b.png", background)
    assert got.shape == (1, 5, 7)
    np.testing.assert_allclose(got[0], grey[..., 0] / 255 * alpha[..., 0] + (1 - alpha[..., 0]) * under, atol=1e-6)


def test_palettes_depths_and_modes(tmp_path):
    colours = Image.fromarray(bytes_of(6, 6, 3))
    palette = colours.quantize(16)
    palette.save(tmp_path / "p.png")
    expected = np.asarray(palette.convert("RGB")).transpose(2, 0, 1) / np.float32(255)
    np.testing.assert_allclose(read_picture(tmp_path / "p.png"), expected, atol=1e-6)
    palette.save(tmp_path / "t.png", transparency=3)
    index = np.asarray(palette) == 3
    assert (read_picture(tmp_path / "t.png")[:, index] == 1.0).all()
    deep = rng.integers(0, 65536, (4, 4)).astype("uint16")
    Image.fromarray(deep).save(tmp_path / "d.png")
    np.testing.assert_allclose(read_picture(tmp_path / "d.png")[0], deep / 65535, atol=1e-6)
    Image.fromarray(bytes_of(4, 4) > 127).save(tmp_path / "1.png")
    assert set(np.unique(read_picture(tmp_path / "1.png"))) <= {0.0, 1.0}
    colours.convert("CMYK").save(tmp_path / "c.jpg")
    assert read_picture(tmp_path / "c.jpg").shape == (3, 6, 6)


def test_colours_become_their_luma():
    picture = rng.random((3, 4, 4)).astype("float32")
    np.testing.assert_allclose(in_channels(picture, 1)[0], np.tensordot([0.299, 0.587, 0.114], picture, 1), rtol=1e-6)
    np.testing.assert_array_equal(in_channels(picture[:1], 3), np.repeat(picture[:1], 3, axis=0))
    with pytest.raises(ValueError, match="channels"):
        in_channels(picture[:2], 3)


def test_resizing_keeps_the_mean():
    picture = rng.random((3, 32, 48)).astype("float32")
    small = resized(picture, (8, 12))
    assert small.shape == (3, 8, 12)
    assert small.mean() == pytest.approx(picture.mean(), abs=0.01)


def test_every_truncation_is_named(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(bytes_of(8, 8, 3)).save(path)
    whole = path.read_bytes()
    for size in range(0, len(whole) - 4, 3):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"a\.png: expected a readable picture"):
            read_picture(path)
    with pytest.raises(FileNotFoundError):
        read_picture(tmp_path / "none.png")


# ------------------------------------------------------------------------------------------------------ folders


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "pictures of mine é"
    for name, count in {"cat": 3, "dog": 2, "an ant": 4}.items():
        (root / name / "more").mkdir(parents=True)
        for k in range(count):
            pixels = bytes_of(6, 8, 3) if k % 2 else bytes_of(6, 8)
            Image.fromarray(pixels).save(root / name / ("more" if k == 1 else "") / f"{k}.PNG")
        (root / name / "notes.txt").write_text("no picture")
        (root / name / ".hidden.png").write_text("no picture")
    return root


def test_classes_are_the_names_of_folders(folder):
    data = datasets.image_folder(folder, channels=1)
    x, y = data
    assert data.classes == ("an ant", "cat", "dog")
    assert x.shape == (9, 1, 6, 8)
    assert x.dtype == np.float32
    assert y.tolist() == [0] * 4 + [1] * 3 + [2] * 2
    assert data.x is x
    assert "an ant, cat, dog" in repr(data)
    for again in (copy.deepcopy(data), pickle.loads(pickle.dumps(data))):
        assert again.classes == data.classes
    model = models.mlp((1, 6, 8), 3, hidden=(4,), norm=None)
    Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.SGD(0.1)).fit(*data, verbose=False)


def test_sizes_channels_and_types(folder):
    for channels in (1, 3):
        x = datasets.image_folder(folder, size=(4, 5), channels=channels).x
        assert x.shape == (9, channels, 4, 5)
    assert datasets.image_folder(str(folder), 12).x.shape == (9, 3, 12, 12)
    floats, raw = (datasets.image_folder(folder, dtype=dtype).x for dtype in ("float64", "uint8"))
    np.testing.assert_allclose(raw / 255, floats, atol=0.5 / 255)
    assert raw.dtype == np.uint8


def test_what_is_no_folder_of_pictures(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    cases = [
        ({"path": tmp_path / "none"}, FileNotFoundError, "none"),
        ({"path": tmp_path / "empty"}, ValueError, "no folder"),
        ({"path": folder, "channels": 2}, ValueError, "channels"), ({"path": folder, "size": 0}, ValueError, "size"),
        ({"path": folder, "dtype": "int8"}, ValueError, "dtype"),
        ({"path": folder, "background": "red"}, ValueError, "background"),
        ({"path": folder / "cat" / "0.PNG"}, NotADirectoryError, "0.PNG"),
    ]  # fmt: skip
    for arguments, kind, words in cases:
        with pytest.raises(kind, match=words):
            datasets.image_folder(**arguments)
    Image.fromarray(bytes_of(9, 9)).save(folder / "dog" / "odd.png")
    with pytest.raises(ValueError, match=r"odd\.png: expected 6 rows and 8 columns .* resizes all"):
        datasets.image_folder(folder)
    (folder / "dog" / "odd.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"odd\.png: expected a readable picture"):
        datasets.image_folder(folder, size=8)
    (folder / "egg").mkdir()
    with pytest.raises(ValueError, match="egg: expected pictures"):
        datasets.image_folder(folder, size=8)


# ------------------------------------------------------------------------------------------------------- tables


def table(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "table of mine.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_a_table(tmp_path):
    path = table(tmp_path, "\ufeffa, b ,kind\n1,2.5,7\n\n-3,1e2,8\n")
    data = datasets.read_csv(path, "kind")
    assert data.x.tolist() == [[1.0, 2.5], [-3.0, 100.0]]
    assert data.x.dtype == np.float32
    assert data.y.tolist() == [7, 8]
    assert data.y.dtype == np.int64
    assert data.columns == ("a", "b")
    assert datasets.read_csv(path, -1).y.tolist() == [7, 8]
    several = datasets.read_csv(path, ["kind", "a"], dtype="float64")
    assert several.y.tolist() == [[7.0, 1.0], [8.0, -3.0]]
    assert several.x.dtype == several.y.dtype == np.float64
    assert datasets.read_csv(path, "b").y.dtype == np.float32


def test_words_become_classes(tmp_path):
    path = table(tmp_path, '1;dog\n2;"cat; big"\n3;dog\n')
    data = datasets.read_csv(path, 1, delimiter=";", header=False)
    assert data.classes == ("cat; big", "dog")
    assert data.y.tolist() == [1, 0, 1]
    assert data.columns == ("0",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n3\n", "line 3: expected 2 values, got 1"), ("a,b\n1,\n", "line 2, column 'b': expected a target"),
        ("a,b\n,1\n", "line 2, column 'a': expected a finite number, got nothing"),
        ("a,b\nx,1\n", "line 2, column 'a': expected a finite number, got 'x'"), ("a,b\nnan,1\n", "got 'nan'"),
        ("a,b\ninf,1\n", "got 'inf'"), ("a,a\n1,2\n", "'a' twice"), ("", "at least one row"),
        ("a,b\n", "at least one row"),
        ("a;b\n1;2\n", "'b'"), ("a,b\n1,cat\n2,3\n", "column 'b': expected a finite number, got 'cat'"),
        ("a,b\n1,\"2\n", "a table in UTF-8"), ("a,b\n1;2,3;4\n", "got '1;2'"), ("b\n1\n", "to leave a column"),
    ],
)  # fmt: skip
def test_what_is_no_table(tmp_path, text, words):
    with pytest.raises(ValueError) as error:
        datasets.read_csv(table(tmp_path, text), "b")
    assert words in str(error.value)


def test_arguments_of_tables(tmp_path):
    path = table(tmp_path, "a,b\n1,2\n")
    for target, kind in (("c", ValueError), (2, ValueError), (-3, ValueError), (1.0, TypeError), (None, TypeError),
                         ([], ValueError), (["a", 0], ValueError), (True, TypeError)):  # fmt: skip
        with pytest.raises(kind, match="target"):
            datasets.read_csv(path, target)
    with pytest.raises(ValueError, match="delimiter"):
        datasets.read_csv(path, "b", delimiter=", ")
    with pytest.raises(FileNotFoundError, match=r"none\.csv"):
        datasets.read_csv(tmp_path / "none.csv", 0)
    with pytest.raises(ValueError, match="UTF-8"):
        datasets.read_csv(table(tmp_path, "a,b\n1,é\n", "latin-1"), "b")
