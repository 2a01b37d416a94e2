from example_pictures import FOLDER, Example, summary


def test_what_is_said_of_the_examples():
    def example(shows, answer, why="", is_known=True):
        return Example(FOLDER, shows, "", why, is_known, answer)

    right, cat = example("cup", "cup"), example("cat", "lion", is_known=False)
    assert summary([right]) == "The model knows 1 of these things and is right on 1."
    text = summary(
        [right, example("rocket", "plate", "it is dark."), example("sea", "plain"), cat]
    )
    assert text == (
        "The model knows 3 of these things and is right on 1. It takes the rocket for "
        "“plate”: it is dark. It takes the sea for “plain”. The cat is none of the "
        "things that it knows, so it has to be wrong there."
    )
    fox, owl = (example(name, "lion", is_known=False) for name in ("fox", "owl"))
    assert "The cat, the fox and the owl are none of" in summary([right, cat, fox, owl])
