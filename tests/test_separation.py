import numpy as np

from segan.separation import separate, separate_regions


def test_pieces_are_8_connected_and_numbered_without_gaps():
    mask = np.array([[1, 0, 0, 1, 1], [0, 1, 0, 0, 0], [0, 0, 0, 0, 1]], np.bool_)
    assert separate(mask).tolist() == [[1, 0, 0, 2, 2], [0, 1, 0, 0, 0], [0, 0, 0, 0, 3]]


def test_pieces_of_the_wrong_size_are_left_out():
    mask = np.array([[1, 0, 1, 1, 0, 1, 1, 1]], np.bool_)
    assert separate(mask, min_area=2).tolist() == [[0, 0, 1, 1, 0, 2, 2, 2]]
    assert separate(mask, max_area=2).tolist() == [[1, 0, 2, 2, 0, 0, 0, 0]]
    assert separate(mask, min_area=2, max_area=2).tolist() == [[0, 0, 1, 1, 0, 0, 0, 0]]
    assert not separate(mask, min_area=4).any()
    assert not separate(np.zeros((3, 4), np.bool_)).any()


def test_regions_fall_into_pieces_that_know_their_region():
    labels = np.array([[0, 0, 2, 2], [1, 0, 0, 2], [0, 1, 1, 1]], np.int32)
    objects, regions = separate_regions(labels)
    assert objects.min() == 1
    assert sorted(np.bincount(objects.ravel())[1:].tolist()) == [3, 4, 5]
    # By diagonals the lone 0 and the lone 1 belong to the others.
    assert np.array_equal(regions[objects - 1], labels)
    objects, regions = separate_regions(labels, min_area=4)
    assert np.array_equal(objects > 0, labels != 2)
    assert np.array_equal(regions[objects[objects > 0] - 1], labels[objects > 0])
