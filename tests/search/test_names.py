from raygpt.search.names import confirming_name, trial_name, trial_number


def test_names_of_trials_and_of_runs_that_confirm_them():
    assert [trial_name(number) for number in (0, 42, 12345)] == ["0000", "0042", "12345"]
    assert [trial_number(trial_name(number)) for number in (0, 42, 12345)] == [0, 42, 12345]
    assert confirming_name("0008", 2) == "0008-2"
