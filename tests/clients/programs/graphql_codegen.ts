import { graphql } from "./gql";
import type { StockQuery, StockQueryVariables } from "./gql/graphql";

export const document = graphql(`
  query Stock($first: Int!, $filter: SkuFilterInput) {
    skus(first: $first, filter: $filter) {
      totalCount
      nodes {
        sku
        status
        stock {
          onHand
          warehouse {
            name
            type
          }
        }
      }
    }
  }
`);

export const variables: StockQueryVariables = { first: 2, filter: { status: "LOW" } };

export function codes(data: StockQuery): string[] {
  return data.skus?.nodes.map((node) => node.sku) ?? [];
}
