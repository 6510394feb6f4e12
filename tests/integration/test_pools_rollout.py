"""Another image: workers are replaced one by one, and old ones go on for as long as they can; on a real API server."""

from __future__ import annotations

from tests.integration.fleet_parts import MERGE, Fleet


async def test_a_changed_image_replaces_pods_one_by_one_and_calls_go_on(fleet: Fleet) -> None:
    fleet.apply(3, worker={"minWorkers": 2, "maxWorkers": 2})
    await fleet.settled()
    fleet.run_pods()
    await fleet.look()
    live = {item["worker"]: await fleet.begin(item) for item in fleet.bound()}
    before = fleet.pod_names()
    assert sorted(live) == before
    staying, leaving = before
    fleet.change(worker={"image": "callfleet/worker:2"})
    await fleet.look(2)
    assert fleet.pod_names() == before  # both have calls, and there is no room for a third
    assert fleet.status()["workers"] == {"ready": 1, "draining": 1, "slotsFree": 0}
    await fleet.end(live[leaving])
    await fleet.look(2)
    images = [item["spec"]["containers"][0]["image"] for item in fleet.pods()]
    assert sorted(images) == ["callfleet/worker:2", "worker"]
    assert staying in fleet.pod_names()
    fleet.run_pods()
    await fleet.look(2)
    (bound,) = fleet.bound()
    new = next(item for item in fleet.pods() if item["spec"]["containers"][0]["image"] == "callfleet/worker:2")
    assert bound["worker"] == new["metadata"]["name"]
    await fleet.end(live[staying])
    await fleet.end(await fleet.begin(bound))
    await fleet.look(3)
    fleet.run_pods()
    await fleet.look()
    assert {item["spec"]["containers"][0]["image"] for item in fleet.pods()} <= {"callfleet/worker:2"}


async def test_while_a_new_image_does_not_start_the_old_workers_go_on_calling(fleet: Fleet) -> None:
    fleet.apply(2, worker={"maxWorkers": 2}, pacing={"maxConcurrent": 1})
    await fleet.settled()
    fleet.run_pods()
    await fleet.look()
    (first,) = fleet.bound()
    attempt = await fleet.begin(first)
    fleet.change(worker={"image": "callfleet/worker:broken"})
    await fleet.look(2)
    broken = next(item for item in fleet.pods() if item["spec"]["containers"][0]["image"].endswith("broken"))
    waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
    status = {"name": "worker", "image": "i", "imageID": "", "ready": False, "restartCount": 0}
    fleet.pod_status(
        broken["metadata"]["name"], phase="Pending", containerStatuses=[{**status, "state": {"waiting": waiting}}]
    )
    await fleet.end(attempt)
    await fleet.look(2)
    (second,) = fleet.bound()
    assert second["worker"] == first["worker"]
    assert fleet.condition("WorkersAvailable")[:2] == ("True", "Ready")
    assert "ImagePullBackOff: no such image" in fleet.condition("WorkersAvailable")[2]


async def test_old_workers_that_cannot_serve_the_campaign_get_no_calls(fleet: Fleet) -> None:
    fleet.apply(1, worker={"maxWorkers": 2})
    await fleet.settled()
    fleet.run_pods()
    (name,) = fleet.pod_names()
    other_keys = {"metadata": {"annotations": {"callfleet.dev/serves": "another"}}}
    fleet.server.request("PATCH", fleet.path(name), other_keys, MERGE)
    fleet.change(worker={"image": "callfleet/worker:2"})
    await fleet.look(2)
    assert fleet.bound() == []
    assert name not in fleet.pod_names()
