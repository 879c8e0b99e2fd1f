"""Decides which DAGs of other teams a new version of an asset starts.

The producer names its consumers (`Asset("scores", access_control=AssetAccessControl(consumer_teams=["support"]))`), the
consumer schedules on the asset by its full name (`schedule=Asset.ref(name="fraud__scores")`). Airflow requires the
consumer to declare the asset with its producer's team, and gives events to everybody where the producer sets nothing.
Here only the owner declares an asset (another team's declaration could take its name or address), and an asset without
consumers stays within its team.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from airflow.assets.manager import AssetManager

if TYPE_CHECKING:
    from airflow.models.dag import DagModel


class PublishingAssetManager(AssetManager):
    """Airflow's asset manager, except that only the producer decides which other teams get its events."""

    @classmethod
    def _filter_dags_by_team(
        cls,
        dags_to_queue: set[DagModel],
        source_teams: set[str],
        asset_model: Any,
        source_is_api: bool,
        *,
        session: Any,
        allow_consumer_teams: Collection[str] | None = None,
        allow_global_consumers: bool = True,
    ) -> set[DagModel]:
        """Keeps the DAGs of the producer's team and of the teams that the producer names."""
        from airflow.models.dag import DagModel  # it imports the asset manager

        owners = DagModel.get_dag_id_to_team_name_mapping([dag.dag_id for dag in dags_to_queue], session=session)
        allowed = source_teams | set(allow_consumer_teams or ())
        return {dag for dag in dags_to_queue if owners.get(dag.dag_id) in allowed}
