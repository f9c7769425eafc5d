"""What the product does on a directory, it does on S3: the same tests, with their objects in a bucket."""

from __future__ import annotations

from tests.e2e.test_executions import (  # noqa: F401 - the fixtures belong to the tests
    photo,
    test_a_batch_is_an_execution_for_each_image,
    test_a_list_can_be_narrowed,
    test_a_rerun_takes_over_what_was_done,
    test_a_watch_over_http_ends_with_the_execution,
    test_cancel_ends_what_waits_and_says_why,
    test_delete_leaves_nothing_but_the_callers_own_output,
    test_many_at_once_with_one_id_are_one_execution,
    test_the_same_request_is_the_same_execution,
    test_what_is_accepted_is_done,
    waiting,
)
from tests.e2e.test_executions_survive import (  # noqa: F401
    test_what_an_orchestrator_dies_in_is_finished_by_the_next_and_watchers_see_it,
    test_what_is_ended_in_the_middle_is_finished_by_the_next_start,
)
from tests.e2e.test_http_surface import (  # noqa: F401
    test_a_definition_has_versions_and_the_newest_is_used,
    test_a_photo_goes_up_through_a_pipeline_and_comes_down,
    test_an_execution_can_be_read_and_listed_afterwards,
    test_lists_come_in_pages,
    test_process_answers_the_image_and_says_where_the_time_went,
    test_the_server_chooses_a_key_for_an_upload_without_one,
)
