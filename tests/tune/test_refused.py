"""What cannot run is refused."""


def test_what_cannot_run_is_one_message_and_leaves_nothing(start, place):
    refused = place / "refused"
    (refused / "taken").mkdir(parents=True)
    attempts = {
        "taken exists and is not overwritten; resume its run with --resume, or start "
        "another run with --name NAME": ["--name=taken"],
        "training.tokns: unknown key": ["--set=training.tokns=1"],
        "--scale full needs a GPU": ["--scale=full"],
        "--scale mini: ": ["--scale=mini"],
        "there is no run in": ["--resume"],
        f"search.warm_start: {place / 'nowhere'}: no such folder": [
            "--set=search.warm_start=[nowhere]",
            "--set=training.learning_rate={loguniform: [1e-3, 1e-2]}",
        ],
        "a trial needs 1 worker with 64 CPU": ["--set=search.cpus_per_worker=64"],
    }
    started = {
        message: start("tiny.yaml", "--runs-dir", refused, *arguments)
        for message, arguments in attempts.items()
    }
    for message, command in started.items():
        status, printed = command.ended()
        assert status == 2, printed
        assert printed.startswith("error: ")
        assert message in printed
        assert printed.count("\n") == 1
        assert command.wait_until_alone()
    assert [path.name for path in refused.iterdir()] == ["taken"]
    assert list((refused / "taken").iterdir()) == []
